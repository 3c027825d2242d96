/**
 * Where a request stands: `open` until the reply is out (`completed`), the client has gone (`closed-by-client`), or the server has ended it early
 * (`closed-by-server`: a fault, or `close()`).
 */
export type RequestState = 'open' | 'completed' | 'closed-by-client' | 'closed-by-server';

/** One request as the server saw it. Live: its fields change while it runs. Times are `performance.now()`, in ms. */
export interface RequestRecord {
  /** `req_0001` and so on: the `request-id` header. */
  readonly id: string;
  readonly method: string;
  readonly path: string;
  /** The request headers, the API key replaced by `[redacted]`. */
  readonly headers: Readonly<Record<string, string>>;
  /** The parsed body; `undefined` before it has arrived and if it is not JSON. */
  readonly body: unknown;
  /** Whether it asked for a stream. */
  readonly stream: boolean;
  readonly state: RequestState;
  /** The HTTP status; `undefined` while no headers have been sent. */
  readonly status: number | undefined;
  /** The fault that struck it. */
  readonly fault: string | undefined;
  /** The message of the error it was answered with. */
  readonly error: string | undefined;
  readonly openedAt: number;
  readonly endedAt: number | undefined;
  readonly closedByClientAt: number | undefined;
  /** Events sent, pings not counted. */
  readonly events: number;
  readonly pings: number;
  readonly inputTokens: number;
  /** Tokens generated while the client was there. */
  readonly outputTokens: number;
  /** Tokens generated after the client had gone; see the option `whenClientLeaves`. */
  readonly tokensForNobody: number;
}

/** Totals since the server started. */
export interface ServerStats {
  readonly requests: number;
  readonly open: number;
  /** The most that were open at once. */
  readonly maxOpen: number;
  readonly completed: number;
  readonly closedByClient: number;
  readonly closedByServer: number;
  /** Responses by HTTP status. */
  readonly statuses: Readonly<Record<number, number>>;
  /** Replies for which the script threw, had nothing left, or gave something that is no reply. */
  readonly scriptErrors: number;
  /** TCP connections now, and since the start. */
  readonly sockets: number;
  readonly socketsOpened: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly tokensForNobody: number;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
export type OpenRecord = Writable<RequestRecord>;

interface Waiter {
  readonly predicate: (stats: ServerStats) => boolean;
  readonly resolve: (stats: ServerStats) => void;
  readonly reject: (error: unknown) => void;
}

/** Remembers the requests, adds them up, and tells who waits for a change. */
export class RequestLog {
  readonly records: OpenRecord[] = [];
  readonly #size: number;
  readonly #waiters = new Set<Waiter>();
  readonly #stats: Writable<ServerStats> & { statuses: Record<number, number> } = {
    requests: 0,
    open: 0,
    maxOpen: 0,
    completed: 0,
    closedByClient: 0,
    closedByServer: 0,
    statuses: {},
    scriptErrors: 0,
    sockets: 0,
    socketsOpened: 0,
    inputTokens: 0,
    outputTokens: 0,
    tokensForNobody: 0,
  };
  #closed = false;

  constructor(size: number) {
    this.#size = size;
  }

  stats(): ServerStats {
    return { ...this.#stats, statuses: { ...this.#stats.statuses } };
  }

  open(id: string, method: string, path: string, headers: Readonly<Record<string, string>>): OpenRecord {
    const record: OpenRecord = {
      ...{
        id,
        method,
        path,
        headers,
        body: undefined,
        stream: false,
        state: 'open',
        status: undefined,
        fault: undefined,
        error: undefined,
      },
      ...{ openedAt: performance.now(), endedAt: undefined, closedByClientAt: undefined },
      ...{ events: 0, pings: 0, inputTokens: 0, outputTokens: 0, tokensForNobody: 0 },
    };
    this.records.push(record);
    if (this.records.length > this.#size) this.records.shift();
    const stats = this.#stats;
    stats.requests += 1;
    stats.open += 1;
    stats.maxOpen = Math.max(stats.maxOpen, stats.open);
    this.#changed();
    return record;
  }

  answered(record: OpenRecord, status: number): void {
    record.status = status;
    this.#stats.statuses[status] = (this.#stats.statuses[status] ?? 0) + 1;
    this.#changed();
  }

  read(record: OpenRecord, inputTokens: number): void {
    record.inputTokens = inputTokens;
    this.#stats.inputTokens += inputTokens;
  }

  wrote(record: OpenRecord, tokens: number): void {
    record.outputTokens += tokens;
    this.#stats.outputTokens += tokens;
    this.#changed();
  }

  wasted(record: OpenRecord, tokens: number): void {
    record.tokensForNobody += tokens;
    this.#stats.tokensForNobody += tokens;
  }

  end(record: OpenRecord, state: Exclude<RequestState, 'open'>): void {
    record.state = state;
    record.endedAt = performance.now();
    const stats = this.#stats;
    stats.open -= 1;
    if (state === 'completed') stats.completed += 1;
    if (state === 'closed-by-server') stats.closedByServer += 1;
    if (state === 'closed-by-client') {
      stats.closedByClient += 1;
      record.closedByClientAt = record.endedAt;
    }
    this.#changed();
  }

  scriptFailed(): void {
    this.#stats.scriptErrors += 1;
  }

  socketOpened(): void {
    this.#stats.sockets += 1;
    this.#stats.socketsOpened += 1;
    this.#changed();
  }

  socketClosed(): void {
    this.#stats.sockets -= 1;
    this.#changed();
  }

  when(predicate: (stats: ServerStats) => boolean): Promise<ServerStats> {
    return new Promise((resolve, reject) => {
      this.#waiters.add({ predicate, resolve, reject });
      this.#changed();
    });
  }

  /** No change will come any more: whoever still waits is told so. */
  close(): void {
    this.#closed = true;
    this.#changed();
  }

  #changed(): void {
    for (const waiter of this.#waiters) this.#ask(waiter);
  }

  #ask(waiter: Waiter): void {
    const stats = this.stats();
    try {
      if (waiter.predicate(stats)) waiter.resolve(stats);
      else if (this.#closed) waiter.reject(new Error(`The Messages server was closed while somebody waited. ${JSON.stringify(stats)}`));
      else return;
    } catch (error) {
      waiter.reject(error);
    }
    this.#waiters.delete(waiter);
  }
}
