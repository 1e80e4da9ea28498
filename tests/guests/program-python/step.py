"""A program as anybody would write it, with the standard library; it knows nothing of the host."""

import os
import sys

from wit_world import exports
from wit_world.imports import environment


class Run(exports.Run):
    def run(self):
        # componentize-py keeps the arguments that it was built with; the interface has the real ones.
        arguments = environment.get_arguments()[1:]
        match arguments:
            case ["copy", source, target]:
                copy(source, target)
            case ["say", *words]:
                print("|".join(words))
                for at, line in enumerate(sys.stdin):
                    print(f"{at}: {line.rstrip()}")
            case ["fail"]:
                print("as told", file=sys.stderr)
                sys.exit(1)
        sys.stdout.flush()


def copy(source, target):
    """Copies a folder in capital letters."""
    for name in sorted(os.listdir(source)):
        if os.path.isdir(f"{source}/{name}"):
            print(name, "folder")
            continue
        with open(f"{source}/{name}", encoding="utf-8") as file:
            text = file.read()
        with open(f"{target}/{name}", "w", encoding="utf-8") as file:
            file.write(text.upper())
        print(name, os.stat(f"{target}/{name}").st_size)
    try:
        open(f"{source}/../secret.txt", encoding="utf-8").close()
        print("out of the folder")
    except OSError:
        print("not out of the folder")
