// Reads calls as JSON from stdin: [{url, api, headers}]. Makes each twice, one after the other, and writes what
// `streamText` told: [[{text, errors: [{name, message, status}], finish}, the same later]].
import { createOpenAI } from "@ai-sdk/openai";
import { streamText } from "ai";
import { text } from "node:stream/consumers";

async function read({ url, api, headers, token }) {
  const openai = createOpenAI({ baseURL: `${url}/openai/v1`, apiKey: token, headers });
  const told = { text: "", errors: [], finish: null };
  const failed = (error) =>
    told.errors.push({ name: error?.name ?? typeof error, message: String(error?.message ?? JSON.stringify(error)), status: error?.statusCode ?? null });
  const answer = streamText({ model: openai[api]("gpt-scripted"), prompt: "What is a log?", maxRetries: 0, onError() {} });
  try {
    for await (const part of answer.fullStream) {
      if (part.type === "text-delta") told.text += part.text;
      if (part.type === "error") failed(part.error);
      if (part.type === "finish") told.finish = part.finishReason;
    }
  } catch (error) {
    failed(error);
  }
  return told;
}

const calls = JSON.parse(await text(process.stdin));
const results = await Promise.all(
  calls.map(async (call) => {
    const first = await read(call);
    return [first, await read(call)];
  }),
);
process.stdout.write(JSON.stringify(results));
