import { z } from 'zod';
import { peer, swallow, version } from '../row.mjs';

async function drain(reader) {
  while (!(await reader.read()).done);
}

/** The same for two majors: the newer declares Node 22, and is run all the same. */
async function rowsOf(name, provider) {
  const { generateText, stepCountIs, streamText, tool } = await peer(name);
  const { createAnthropic } = await peer(provider);

  const asked = (job) => {
    const model = createAnthropic({ apiKey: 'bench', baseURL: `${job.url}/v1` })('bench');
    const tools = Object.fromEntries(
      Object.entries(job.tools).map(([key, body]) => [
        key,
        tool({ description: key, inputSchema: z.object({}), execute: (_input, { abortSignal }) => body(abortSignal) }),
      ]),
    );
    return { model, tools, prompt: 'Go.', maxRetries: 0, maxOutputTokens: 1_024, stopWhen: stepCountIs(5) };
  };

  const generate = (job, extra) => swallow(generateText({ ...asked(job), ...extra }));
  const stream = (job, extra) => streamText({ ...asked(job), ...extra, onError: () => {} }).fullStream;
  const read = (parts) => drain(parts.getReader());

  const abortGenerate = (job) => {
    void job.abortAtMoment();
    return generate(job, { abortSignal: job.signal });
  };
  const abortStream = (job) => {
    void job.abortAtMoment();
    return swallow(read(stream(job, { abortSignal: job.signal })));
  };
  const leaveStream = async (job) => {
    const reader = stream(job).getReader();
    void swallow(drain(reader));
    await job.moment();
    await swallow(reader.cancel());
  };

  const versions = `${version(name)}, ${version(provider)}`;
  const major = version(name).match(/\d+/)[0];
  return [
    {
      name: `Vercel ai ${major}, generateText`,
      with: versions,
      model: {},
      fail: generate,
      abort: abortGenerate,
      abortQuiet: abortGenerate,
    },
    {
      name: `Vercel ai ${major}, streamText`,
      with: versions,
      model: { eventMs: 20 },
      fail: (job) => swallow(read(stream(job))),
      abort: abortStream,
      leave: leaveStream,
      abortQuiet: abortStream,
      leaveQuiet: leaveStream,
    },
  ];
}

export const rows = [...(await rowsOf('ai-6', '@ai-sdk/anthropic-3')), ...(await rowsOf('ai', '@ai-sdk/anthropic'))];
