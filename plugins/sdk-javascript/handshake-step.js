// Write a Handshake workflow step in JavaScript: input checked against its schema, and errors as the host expects them.
//
//     import { step } from "./handshake-step.js";
//
//     export const handler = step({
//       name: "count-words",
//       version: "0.1.0",
//       capabilities: [],
//       input: { type: "object", properties: { text: { type: "string" } }, required: ["text"], additionalProperties: false },
//       output: { type: "object", properties: { words: { type: "integer" } }, required: ["words"] },
//       run(context, input) {
//         return { words: input.text.split(/\s+/).filter(Boolean).length };
//       },
//     });
//
// `run` may be async. The host's interfaces are modules: import { generate } from "handshake:step/models@0.1.0". Files are
// read with ./handshake-files.js; for requests there is `fetch`, when the world in `wit` imports it.
//
// A call that the host refuses throws an error whose `payload` is the refusal. Left alone, it ends the step as what it is: a
// denial stays one, what may pass by itself may be retried, the rest is final.

/** Why the step failed; `tag` is `invalid-input`, `transient` or `permanent`. */
export class StepError extends Error {
  constructor(tag, message) {
    super(message);
    // What componentize-js gives to the host.
    this.payload = { tag, val: message };
  }
}

/** The denial in an error of a call, with `capability`, `resource`, `reason` and `remedy`; undefined if it is no refusal. */
export function denial(error) {
  return error?.payload?.tag === "denied" ? error.payload.val : undefined;
}

/** Makes a function the step that this component exports as `handler`. Name, version and capabilities must agree with
 * plugin.toml; `input` and `output` are JSON Schemas. */
export function step({ name, version, capabilities, input, output, run }) {
  return {
    describe() {
      const [inputSchema, outputSchema] = [JSON.stringify(input), JSON.stringify(output)];
      return { name, version, inputSchema, outputSchema, capabilities };
    },
    async run(context, text) {
      const value = JSON.parse(text);
      check(input, value, "input");
      try {
        return { value: JSON.stringify(await run(context, value)), metrics: [] };
      } catch (error) {
        throw error instanceof StepError ? error : asStepError(error);
      }
    },
  };
}

function asStepError(error) {
  const { tag, val } = error?.payload ?? {};
  switch (tag) {
    case "denied":
      return Object.assign(new Error("denied"), { payload: { tag, val } });
    case "unavailable":
      return new StepError("transient", val);
    case "invalid":
      return new StepError("permanent", `not acceptable: ${val}`);
    case "not-found":
      return new StepError("permanent", `not found: ${val}`);
    case "failed":
      return new StepError("permanent", val);
  }
  // A failed `fetch`, which does not say more.
  if (error instanceof TypeError && error.message.startsWith("NetworkError")) return new StepError("permanent", error.message);
  // WASI's words: of a call, and of a FileError.
  if (typeof error?.payload === "string") return new StepError("permanent", error.payload);
  if (typeof error?.code === "string") return new StepError("permanent", error.message);
  // A mistake in the step. The trap that follows shows where.
  return error;
}

function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

/** Checks a value by the part of JSON Schema that inputs need: type, properties, required, additionalProperties, items,
 * enum, minimum and maximum. Throws a StepError that says where it does not fit. */
export function check(schema, value, where) {
  const refuse = (problem) => {
    throw new StepError("invalid-input", `${where}: ${problem}`);
  };
  const found = typeOf(value);
  const types = schema.type === undefined ? [] : [schema.type].flat();
  if (types.length > 0 && !types.includes(found) && !(found === "integer" && types.includes("number"))) {
    refuse(`must be ${types.join(" or ")}, not ${JSON.stringify(value).slice(0, 60)}`);
  }
  if (schema.enum && !schema.enum.includes(value)) refuse(`must be one of ${schema.enum.join(", ")}`);
  if (value < schema.minimum || value > schema.maximum) {
    refuse(`must be ${schema.minimum ?? "anything"} to ${schema.maximum ?? "anything"}`);
  }
  if (found === "array" && schema.items) {
    value.forEach((inner, at) => check(schema.items, inner, `${where}[${at}]`));
  }
  if (found === "object") {
    const known = schema.properties ?? {};
    for (const name of schema.required ?? []) {
      if (!Object.hasOwn(value, name)) refuse(`missing field \`${name}\``);
    }
    for (const [name, inner] of Object.entries(value)) {
      if (Object.hasOwn(known, name)) check(known[name], inner, `${where}.${name}`);
      else if (schema.additionalProperties === false) refuse(`unknown field \`${name}\``);
    }
  }
}
