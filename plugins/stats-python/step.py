"""Counts words and links in the Markdown files of a mount.

`stats-rust` and `stats-javascript` do the same and give the same bytes; what counts as what is therefore defined by
characters, not by any language's library.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass

from handshake_step import StepError, step

# How many of the most frequent words are listed.
TOP_WORDS = 10

# Runs of ASCII letters, ASCII digits and characters beyond ASCII.
WORD = re.compile(r"[A-Za-z0-9\u0080-\U0010ffff]+")
# What stands between `](` and the next space, line end, tab or `)`.
LINK_END = re.compile(r"[ \t\r\n)]")
HOST = re.compile(r"https?://([^/?#:]+)")
# str.lower would change letters beyond ASCII, each language its own.
LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass
class Input:
    mount: str


@dataclass
class FileStats:
    path: str
    words: int
    links: int


@dataclass
class Count:
    name: str
    count: int


@dataclass
class Output:
    files: list[FileStats]
    words: int
    links: int
    top_words: list[Count]
    hosts: list[Count]
    skipped: list[str]


def run(context, input: Input) -> Output:
    root = f"/{input.mount}"
    output = Output(files=[], words=0, links=0, top_words=[], hosts=[], skipped=[])
    words, hosts = Counter(), Counter()
    try:
        for path in sorted(markdown_files(root, "")):
            with open(f"{root}/{path}", "rb") as file:
                content = file.read()
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                output.skipped.append(path)
                continue
            found, targets = WORD.findall(text), links(text)
            words.update(word.translate(LOWER) for word in found)
            hosts.update(match[1].translate(LOWER) for target in targets if (match := HOST.match(target)))
            output.files.append(FileStats(path, len(found), len(targets)))
    except OSError as error:
        raise StepError(f"{error.filename}: {error.strerror}") from error
    output.words = sum(file.words for file in output.files)
    output.links = sum(file.links for file in output.files)
    output.top_words = ranked(words)[:TOP_WORDS]
    output.hosts = ranked(hosts)
    return output


def markdown_files(folder, prefix):
    """Paths of the Markdown files below a folder; hidden entries and links are left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from markdown_files(f"{folder}/{entry.name}", f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) and entry.name.endswith(".md"):
                yield f"{prefix}{entry.name}"


def links(text):
    found = []
    for rest in text.split("](")[1:]:
        end = LINK_END.search(rest)
        if end and end.start() > 0:
            found.append(rest[: end.start()])
    return found


def ranked(counts):
    """The most frequent first; those that are as frequent in the order of their characters."""
    return [Count(name, count) for name, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))]


Handler = step(run, name="stats-python", version="0.1.0", capabilities=["fs.read"])
