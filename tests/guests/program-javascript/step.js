// A program that knows nothing of the host: arguments, standard input and output, files.

import { getArguments } from "wasi:cli/environment@0.2.12";
import { getStdin } from "wasi:cli/stdin@0.2.12";
import { getDirectories } from "wasi:filesystem/preopens@0.2.12";

export const run = {
  run() {
    const [command, ...rest] = getArguments().slice(1);
    if (command === "copy") copy(...rest);
    if (command === "say") {
      console.log(rest.join("|"));
      readAll().split("\n").forEach((line, at) => line === "" || console.log(`${at}: ${line.trimEnd()}`));
    }
    // An error is the end with code 1.
    if (command === "fail") throw undefined;
  },
};

function readAll() {
  const stdin = getStdin();
  const chunks = [];
  try {
    for (;;) chunks.push(...stdin.blockingRead(65536n));
  } catch {
    // The end of a stream is an error, too.
    return new TextDecoder().decode(new Uint8Array(chunks));
  }
}

function mount(name) {
  return getDirectories().find(([, path]) => path.replace(/^\//, "") === name)[0];
}

/** Copies a folder in capital letters. */
function copy(source, target) {
  const [from, to] = [mount(source), mount(target)];
  const entries = [];
  const stream = from.readDirectory();
  for (let entry; (entry = stream.readDirectoryEntry()); ) entries.push(entry);
  for (const { name, type } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (type === "directory") {
      console.log(`${name} folder`);
      continue;
    }
    const file = from.openAt({}, name, {}, { read: true });
    const [bytes] = file.read(1n << 20n, 0n);
    const text = new TextEncoder().encode(new TextDecoder().decode(bytes).toUpperCase());
    const made = to.openAt({}, name, { create: true, truncate: true }, { write: true });
    made.write(text, 0n);
    console.log(`${name} ${made.stat().size}`);
  }
  try {
    from.openAt({}, "../secret.txt", {}, { read: true });
    console.log("out of the folder");
  } catch {
    console.log("not out of the folder");
  }
}
