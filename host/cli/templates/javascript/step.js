// Summarizes a text with a model.

import { generate } from "handshake:step/models@0.1.0";

import { step } from "./handshake-step.js";

export const handler = step({
  name: "PLUGIN-NAME",
  version: "0.1.0",
  capabilities: ["model.infer"],
  // What the step takes.
  input: {
    type: "object",
    properties: { text: { type: "string" } },
    required: ["text"],
    additionalProperties: false,
  },
  // What the step gives.
  output: {
    type: "object",
    properties: { summary: { type: "string" }, words: { type: "integer" } },
    required: ["summary", "words"],
  },
  run(_context, { text }) {
    // A refusal is an error: left alone it ends the step; `denial` of ./handshake-step.js tells it apart.
    const answer = generate({ model: "default", messages: [{ role: "user", content: text }] });
    return { summary: answer.text, words: answer.text.split(/\s+/).filter(Boolean).length };
  },
});
