// Counts words and links in the Markdown files of a mount. `stats-rust` and `stats-python` do the same and give the same
// bytes; what counts as what is therefore defined by characters, not by any language's library.

import { FileError, listFolder, readFile } from "./handshake-files.js";
import { StepError, step } from "./handshake-step.js";

// How many of the most frequent words are listed.
const TOP_WORDS = 10;

const countsSchema = {
  type: "array",
  items: {
    type: "object",
    properties: { name: { type: "string" }, count: { type: "integer" } },
    required: ["name", "count"],
  },
};

export const handler = step({
  name: "stats-javascript",
  version: "0.1.0",
  capabilities: ["fs.read"],
  input: {
    type: "object",
    properties: { mount: { type: "string" } },
    required: ["mount"],
    additionalProperties: false,
  },
  output: {
    type: "object",
    properties: {
      files: {
        type: "array",
        items: {
          type: "object",
          properties: { path: { type: "string" }, words: { type: "integer" }, links: { type: "integer" } },
          required: ["path", "words", "links"],
        },
      },
      words: { type: "integer" },
      links: { type: "integer" },
      top_words: countsSchema,
      hosts: countsSchema,
      skipped: { type: "array", items: { type: "string" } },
    },
    required: ["files", "words", "links", "top_words", "hosts", "skipped"],
  },
  run,
});

function run(_context, { mount }) {
  const output = { files: [], words: 0, links: 0, top_words: [], hosts: [], skipped: [] };
  const [words, hosts] = [new Map(), new Map()];
  // A byte order mark is a character like any other.
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    for (const path of markdownFiles(`/${mount}`, "").sort(byCharacters)) {
      const bytes = readFile(`/${mount}/${path}`);
      let text;
      try {
        text = utf8.decode(bytes);
      } catch {
        output.skipped.push(path);
        continue;
      }
      // Runs of ASCII letters, ASCII digits and characters beyond ASCII.
      const found = text.match(/[A-Za-z0-9\u{80}-\u{10ffff}]+/gu) ?? [];
      for (const word of found) count(words, lower(word));
      const targets = links(text);
      for (const target of targets) {
        const host = /^https?:\/\/([^/?#:]+)/.exec(target)?.[1];
        if (host) count(hosts, lower(host));
      }
      output.files.push({ path, words: found.length, links: targets.length });
      output.words += found.length;
      output.links += targets.length;
    }
  } catch (error) {
    throw error instanceof FileError ? new StepError("permanent", error.message) : error;
  }
  output.top_words = ranked(words).slice(0, TOP_WORDS);
  output.hosts = ranked(hosts);
  return output;
}

/** Paths of the Markdown files below a folder; hidden entries and links are left out. */
function markdownFiles(folder, prefix) {
  return listFolder(folder).flatMap(({ name, kind }) => {
    if (name.startsWith(".")) return [];
    if (kind === "directory") return markdownFiles(`${folder}/${name}`, `${prefix}${name}/`);
    return kind === "regular-file" && name.endsWith(".md") ? [`${prefix}${name}`] : [];
  });
}

/** What stands between `](` and the next space, line end, tab or `)`, unless it is empty or the text ends before that. */
function links(text) {
  const targets = text.split("](").slice(1).map((rest) => rest.slice(0, Math.max(rest.search(/[ \t\r\n)]/), 0)));
  return targets.filter((target) => target !== "");
}

/** toLowerCase would change letters beyond ASCII, each language its own. */
function lower(text) {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

function count(counts, name) {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** Sorting would compare UTF-16 by itself, in which U+1F600 comes before U+FF5E. */
function byCharacters(a, b) {
  const [left, right] = [Array.from(a), Array.from(b)];
  for (let at = 0; at < left.length && at < right.length; at += 1) {
    if (left[at] !== right[at]) return left[at].codePointAt(0) - right[at].codePointAt(0);
  }
  return left.length - right.length;
}

/** The most frequent first; those that are as frequent in the order of their characters. */
function ranked(counts) {
  const entries = Array.from(counts, ([name, count]) => ({ name, count }));
  return entries.sort((a, b) => b.count - a.count || byCharacters(a.name, b.name));
}
