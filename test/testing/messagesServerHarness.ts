import Anthropic from '@anthropic-ai/sdk';
import { onTestFinished } from 'vitest';
import type { MessagesServerOptions } from '../../src/testing/messages/options.js';
import type { Script } from '../../src/testing/messages/reply.js';
import { startMessagesServer } from '../../src/testing/messagesServer.js';
import type { MessagesServer } from '../../src/testing/messagesServer.js';

export const ask = { model: 'claude-test', max_tokens: 100, messages: [{ role: 'user' as const, content: 'hello' }] };

/** A server for one test, and the real client for it. */
export async function start(
  script: Script,
  options: Omit<MessagesServerOptions, 'script'> = {},
): Promise<{ server: MessagesServer; client: Anthropic }> {
  const server = await startMessagesServer({ ...options, script });
  onTestFinished(() => server.close());
  return { server, client: new Anthropic({ apiKey: 'test', baseURL: server.url, maxRetries: 0 }) };
}
