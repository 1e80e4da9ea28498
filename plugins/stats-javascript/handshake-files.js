// Files of a mount, for steps in JavaScript. Paths begin with the mount's name, as in `/in/notes/a.md`. What fails throws a
// FileError, whose `code` is WASI's word for it: `access` when the host refused, `no-entry` when there is no such file.

import { getDirectories } from "wasi:filesystem/preopens@0.2.12";

/** A file or folder that could not be used. */
export class FileError extends Error {
  constructor(path, code) {
    super(`${path}: ${code}`);
    this.code = code;
  }
}

function attempt(path, act) {
  try {
    return act();
  } catch (error) {
    const code = error?.payload;
    // Streams give an object in the place of a word.
    throw typeof code === "string" ? new FileError(path, code) : code?.tag ? new FileError(path, code.tag) : error;
  }
}

/** Opens what is at a path, gives its descriptor to `act`, and closes it. */
function opened(path, openFlags, flags, act) {
  const [, mount, rest] = /^(\/[^/]+)\/?(.*)$/s.exec(path) ?? [];
  const root = getDirectories().find(([, name]) => name === mount)?.[0];
  if (!root) throw new FileError(path, "no-entry");
  return attempt(path, () => {
    const descriptor = root.openAt({}, rest || ".", openFlags, flags);
    try {
      return act(descriptor);
    } finally {
      descriptor[Symbol.dispose]();
    }
  });
}

/** Reads a file as bytes. */
export function readFile(path) {
  return opened(path, {}, { read: true }, (file) => {
    const chunks = [];
    let at = 0n;
    for (;;) {
      const [chunk, end] = file.read(65536n, at);
      if (chunk.length > 0) chunks.push(chunk);
      at += BigInt(chunk.length);
      if (end || chunk.length === 0) break;
    }
    const bytes = new Uint8Array(Number(at));
    let offset = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, offset);
      offset += chunk.length;
    }
    return bytes;
  });
}

/** Writes a file, in the place of one that is there. */
export function writeFile(path, bytes) {
  opened(path, { create: true, truncate: true }, { write: true }, (file) => {
    for (let at = 0; at < bytes.length; ) at += Number(file.write(bytes.subarray(at, at + 65536), BigInt(at)));
  });
}

/** The entries of a folder, as `{ name, kind }`; `kind` is WASI's word: `regular-file`, `directory`, `symbolic-link`. */
export function listFolder(path) {
  return opened(path, { directory: true }, { read: true }, (folder) => {
    const stream = folder.readDirectory();
    const entries = [];
    for (let entry; (entry = stream.readDirectoryEntry()); ) entries.push({ name: entry.name, kind: entry.type });
    stream[Symbol.dispose]();
    return entries;
  });
}
