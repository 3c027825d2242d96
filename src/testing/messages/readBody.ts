import type { IncomingMessage } from 'node:http';

/**
 * The text of a body, or `undefined` for one that is too large. That one is read on, up to double the bound, because a client that is still
 * sending would lose the answer.
 */
export function readBody(request: IncomingMessage, maxBytes: number): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  return new Promise((resolve, reject) => {
    request.on('error', reject);
    request.on('end', () => resolve(size > maxBytes ? undefined : Buffer.concat(chunks).toString('utf8')));
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= maxBytes) chunks.push(chunk);
      else chunks.length = 0;
      if (size <= 2 * maxBytes) return;
      request.pause();
      resolve(undefined);
    });
  });
}
