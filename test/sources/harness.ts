import Anthropic from '@anthropic-ai/sdk';
import { startMessagesServer, type MessagesServer, type MessagesServerOptions, type Script } from 'rxfleet/testing';
import { onTestFinished } from 'vitest';

export type MessageParam = Anthropic.Messages.MessageParam;

export const hello: MessageParam = { role: 'user', content: 'hello' };
export const ask = { model: 'claude-test', max_tokens: 200, messages: [hello] };

/** A server for one test, and the real client for it. The client retries: whatever goes out must say that it must not. */
export async function start(
  script: Script,
  options: Omit<MessagesServerOptions, 'script'> = {},
): Promise<{ server: MessagesServer; client: Anthropic }> {
  const server = await startMessagesServer({ ...options, script });
  onTestFinished(() => server.close());
  return { server, client: new Anthropic({ apiKey: 'test', baseURL: server.url, maxRetries: 3, logLevel: 'off' }) };
}

/** Fails the test for every rejection that nobody handles, and for every warning of the process. */
export function watchProcess(): () => void {
  const seen: unknown[] = [];
  const note = (problem: unknown): void => void seen.push(problem);
  process.on('unhandledRejection', note);
  process.on('warning', note);
  return () => {
    process.off('unhandledRejection', note);
    process.off('warning', note);
    if (seen.length > 0) throw new AggregateError(seen, `The process complained: ${seen.map(String).join('; ')}`);
  };
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));
