// Calls functions of @huggingface/hub as told: one JSON command a line on stdin, one JSON answer a line on stdout.
//
//   {"call": "downloadFile", "params": {...}}          -> {"result": ...}, of a generator {"items": [...], "returned": ...}
//   {"read": 3, "from": 0, "to": 10, "how": "stream", "into": "/file"}    -> {"result": {"bytes": 10}}
//
// An error comes back as {"error": {"name", "message", "statusCode", "data"}}. What JSON has no word for:
//   {"$base64": "…"} and {"$file": "/file"} are Blobs, {"$blob": 3} is a Blob that an earlier call returned,
//   {"$url": "file:///…"} is a URL, {"$abort": 500} is an AbortSignal that comes after so many milliseconds,
//   {"$map": "name"} is a Map that lives as long as this process.

import { createWriteStream, openAsBlob } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import * as hub from "@huggingface/hub";

// The client reports on the console, but stdout is for answers.
console.log = console.info = console.debug = console.error;

const blobs = [];
const maps = new Map();

async function decode(value) {
  if (Array.isArray(value)) return Promise.all(value.map(decode));
  if (value === null || typeof value !== "object") return value;
  if ("$base64" in value) return new Blob([Buffer.from(value.$base64, "base64")]);
  if ("$file" in value) return openAsBlob(value.$file);
  if ("$blob" in value) return blobs[value.$blob];
  if ("$url" in value) return new URL(value.$url);
  if ("$abort" in value) return AbortSignal.timeout(value.$abort);
  if ("$map" in value) {
    if (!maps.has(value.$map)) maps.set(value.$map, new Map());
    return maps.get(value.$map);
  }
  const entries = Object.entries(value).map(async ([key, item]) => [key, await decode(item)]);
  return Object.fromEntries(await Promise.all(entries));
}

function encode(_key, value) {
  if (value instanceof Blob) {
    return { $blob: blobs.push(value) - 1, size: value.size, kind: value.constructor.name };
  }
  return value === undefined ? null : value;
}

async function call(name, params) {
  const result = await hub[name](await decode(params));
  if (typeof result?.[Symbol.asyncIterator] !== "function" || result instanceof Blob) return result;
  const items = [];
  for (;;) {
    const step = await result.next();
    if (step.done) return { items, returned: step.value };
    items.push(step.value);
  }
}

async function read(number, { from, to, how, into }) {
  const whole = blobs[number];
  const blob = from === undefined ? whole : whole.slice(from, to);
  if (how === "stream") {
    await pipeline(Readable.fromWeb(blob.stream()), createWriteStream(into));
  } else {
    await writeFile(into, how === "text" ? await blob.text() : Buffer.from(await blob.arrayBuffer()));
  }
  return { bytes: blob.size };
}

async function answer(line) {
  try {
    const command = JSON.parse(line);
    return { result: "call" in command ? await call(command.call, command.params) : await read(command.read, command) };
  } catch (error) {
    const { name, message, statusCode, data, cause } = error;
    return { error: { name, kind: error.constructor.name, message, statusCode, data, cause: cause && String(cause) } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await answer(line), encode) + "\n");
}

// Connections that the client keeps open would hold this process up for ten seconds.
process.exit();
