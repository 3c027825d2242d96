import { fork } from 'node:child_process';
import { once } from 'node:events';
import Anthropic from '@anthropic-ai/sdk';

/** Starts the server and makes a client of it. */
export async function connect(script) {
  const server = fork(new URL('serverProcess.mjs', import.meta.url), [script]);
  const [{ url }] = await once(server, 'message');
  const client = new Anthropic({ apiKey: 'bench', baseURL: url, maxRetries: 0 });
  const look = async () => {
    server.send('look');
    const [seen] = await once(server, 'message');
    return seen;
  };
  return { client, look, close: () => server.disconnect() };
}

export const request = { model: 'bench', max_tokens: 1024, messages: [{ role: 'user', content: 'Go.' }] };
