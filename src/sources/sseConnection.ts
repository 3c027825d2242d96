import { release } from '../core/readIterable.js';

/** Asks for a response. `lastEventId` is empty unless it is to go on where another one ended. */
export type SseResponder = (signal: AbortSignal, lastEventId: string) => Response | PromiseLike<Response>;

type Reader = ReadableStreamDefaultReader<Uint8Array>;

function ignore(): void {
  // Whoever waits for it hears of it.
}

/** One request and its response, read chunk by chunk. */
export class SseConnection {
  private readonly controller = new AbortController();
  private opening: Promise<void> | undefined = undefined;
  private reader: Reader | undefined = undefined;
  private complete = false;
  private closing: Promise<void> | undefined = undefined;

  /** Rejects when it is closed, also while `ask` does not listen to its signal. */
  open(ask: SseResponder, lastEventId: string): Promise<Response> {
    const { signal } = this.controller;
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      const asked = new Promise<Response>((answer) => answer(ask(signal, lastEventId)));
      this.opening = asked.then(async (response) => {
        if (signal.aborted) await discard(response);
        else resolve(this.take(response));
      }, reject);
      this.opening.catch(reject);
    });
  }

  private take(response: Response): Response {
    if (typeof response?.status !== 'number' || typeof response.headers?.get !== 'function')
      throw new TypeError(`fromSse: the function must give a Response, got ${typeof response}.`);
    const { body } = response;
    if (body !== null && typeof body?.getReader !== 'function')
      throw new TypeError('fromSse: the body of the Response must be a ReadableStream.');
    this.reader = body?.getReader();
    return response;
  }

  /** The next bytes; undefined at the end. */
  async read(): Promise<Uint8Array | undefined> {
    const { reader } = this;
    if (reader === undefined) return undefined;
    const { done, value } = await reader.read();
    if (!done) return value;
    this.complete = true;
    return undefined;
  }

  /** The first `most` bytes as text, or what there is of them when it is closed. */
  async excerpt(most: number): Promise<string> {
    const decoder = new TextDecoder();
    let text = '';
    let left = most;
    try {
      for (let chunk = await this.read(); chunk !== undefined; chunk = await this.read()) {
        text += decoder.decode(chunk.subarray(0, left), { stream: true });
        left -= Math.min(left, chunk.length);
        if (left === 0) break;
      }
    } catch {
      // It is only an excerpt.
    }
    return text;
  }

  /** Stops everything at once; resolves when all of it has ended. */
  close(): Promise<void> {
    return (this.closing ??= this.closeNow());
  }

  private async closeNow(): Promise<void> {
    const { reader } = this;
    this.reader = undefined;
    if (!this.complete) this.controller.abort();
    const released = reader === undefined ? undefined : release(reader);
    released?.catch(ignore);
    await this.opening?.catch(ignore);
    await released;
  }
}

/** A response that came too late. */
async function discard(response: Response): Promise<void> {
  await response?.body?.cancel?.();
}
