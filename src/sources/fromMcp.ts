import { defer, Observable, of, repeat, Subject, take, type MonoTypeOperatorFunction } from 'rxjs';
import { z } from 'zod';
import { checkFunction } from '../core/options.js';
import { checkCount, checkMilliseconds, refuse } from './checks.js';
import { isRecord } from './contentBlocks.js';
import { ask, toolsChanged, type McpClient } from './mcpClient.js';
import { modelNames } from './mcpNames.js';
import { mcpTool, type McpTool, type McpToolInfo, type McpToolOptions } from './mcpTool.js';

export interface FromMcpOptions {
  /** Stands before every name, so that servers can have tools of the same name. Up to 64 letters, digits, `_` and `-`. Default: none. */
  readonly prefix?: string | undefined;
  /** Whether to take the server's word for it that a tool is read-only or idempotent. Default false: its tools are `unsafe`. */
  readonly trustHints?: boolean | undefined;
  /** Milliseconds that a call may take. Default: no limit. */
  readonly timeoutMs?: number | undefined;
  /** Milliseconds that a stopped call may take to acknowledge before it is abandoned. Default 5000. */
  readonly graceMs?: number | undefined;
  /** A server with more tools than that is refused. Default 1000. */
  readonly maxTools?: number | undefined;
  /** Images and documents beyond so many characters of base64 in one result are described, not shown. Default 5,000,000. */
  readonly maxDataChars?: number | undefined;
  /** Options of a single tool, by what the server tells of it; null leaves the tool out. */
  readonly configure?: ((tool: McpToolInfo) => McpToolOptions | null | undefined) | undefined;
}

const PREFIX = /^[a-zA-Z0-9_-]{0,64}$/;
const MOST_TOOLS = 1000;
const MOST_DATA = 5_000_000;
const PAGE = z.looseObject({ tools: z.array(z.unknown()).catch([]), nextCursor: z.string().nullish() });

/**
 * The tools of an MCP server, ready for `agent`: cancelling a call tells the server, its progress is told as events, and its hints are not believed
 * unless you say so.
 *
 * ```
 * server    ----------c-----        c: it says that its tools have changed
 *           fromMcp(client)
 * output    --a---------b---        a, b: all of its tools
 * ```
 *
 * *When to use*: for a connected `Client` of `@modelcontextprotocol/sdk`. Take the first list with `firstValueFrom`, or follow the changes.
 *
 * @param client - connected; it stays yours to close
 * @param options - see {@link FromMcpOptions}. Throws a TypeError or RangeError for a wrong one
 * @returns a cold Observable of lists. Completes after the first from a server that does not announce changes, else when the connection is closed.
 * Unsubscribing cancels the listing; tools that were emitted go on working. Errors with what the client reports, and with a RangeError when the
 * server has more than `maxTools`
 * @see {@link fromSdkTool} for tools of the Anthropic SDK
 */
export function fromMcp(client: McpClient, options: FromMcpOptions = {}): Observable<readonly McpTool[]> {
  check(client, options);
  const list = new Observable<readonly McpTool[]>((subscriber) => {
    const controller = new AbortController();
    subscriber.add(() => controller.abort());
    load(client, options, controller.signal).then(
      (tools) => {
        subscriber.next(tools);
        subscriber.complete();
      },
      (error: unknown) => subscriber.error(error),
    );
  });
  return defer(() => list.pipe(again(toolsChanged(client))));
}

/** Subscribes again at every change; for all changes while it runs, once more after it. */
function again<T>(changes: Observable<void>): MonoTypeOperatorFunction<T> {
  return (source) =>
    new Observable((subscriber) => {
      const news = new Subject<void>();
      let stale = false;
      subscriber.add(() => news.complete());
      subscriber.add(
        changes.subscribe({
          next: () => {
            stale = true;
            news.next();
          },
          complete: () => news.complete(),
        }),
      );
      const fresh = defer(() => {
        stale = false;
        return source;
      });
      fresh.pipe(repeat({ delay: () => (stale ? of(true) : news.pipe(take(1))) })).subscribe(subscriber);
    });
}

async function load(client: McpClient, options: FromMcpOptions, signal: AbortSignal): Promise<readonly McpTool[]> {
  return toolsOf(client, await listAll(client, options.maxTools ?? MOST_TOOLS, signal), options);
}

async function listAll(client: McpClient, most: number, signal: AbortSignal): Promise<McpToolInfo[]> {
  const capabilities = client.getServerCapabilities();
  if (capabilities !== undefined && capabilities.tools === undefined) return [];
  const found = new Map<string, McpToolInfo>();
  let cursor: string | undefined;
  let pages = 0;
  do {
    const params = cursor === undefined ? {} : { cursor };
    const page = PAGE.parse(await ask(signal, (own) => client.request({ method: 'tools/list', params }, PAGE, { signal: own })));
    for (const info of page.tools) if (isCallable(info) && !found.has(info.name)) found.set(info.name, info);
    if (found.size > most || ++pages > most)
      throw new RangeError(`fromMcp: the server lists more than ${most} tools; maxTools can be raised.`);
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined && cursor !== '');
  return [...found.values()];
}

/** Tools that run as tasks of the server only have no answer to a call. */
function isCallable(info: unknown): info is McpToolInfo {
  if (!isRecord(info) || typeof info['name'] !== 'string') return false;
  const { execution } = info;
  return !isRecord(execution) || execution['taskSupport'] !== 'required';
}

function toolsOf(client: McpClient, infos: readonly McpToolInfo[], options: FromMcpOptions): readonly McpTool[] {
  const { prefix = '', trustHints = false, timeoutMs, graceMs, maxDataChars = MOST_DATA, configure } = options;
  const kept = infos.flatMap((info) => {
    const own = configure === undefined ? {} : configure(info);
    return own === null ? [] : [{ info, own: own ?? {} }];
  });
  const names = modelNames(
    kept.map(({ info }) => info.name),
    prefix,
  );
  return kept.map(({ info, own }, at) =>
    mcpTool(client, info, { timeoutMs, graceMs, ...own, name: own.name ?? names[at] ?? info.name, maxDataChars, trustHints }),
  );
}

function check(client: unknown, options: FromMcpOptions): void {
  if (typeof (client as Partial<McpClient> | null | undefined)?.callTool !== 'function')
    refuse(TypeError, 'fromMcp', 'client', 'a Client of @modelcontextprotocol/sdk', client);
  if (!isRecord(options)) refuse(TypeError, 'fromMcp', 'options', 'an object', options);
  const { prefix = '', trustHints = false, timeoutMs = 0, graceMs = 0, maxTools = 1, maxDataChars = 1, configure } = options;
  if (typeof prefix !== 'string') refuse(TypeError, 'fromMcp', 'prefix', 'a string', prefix);
  if (!PREFIX.test(prefix)) refuse(RangeError, 'fromMcp', 'prefix', 'up to 64 letters, digits, "_" or "-"', prefix);
  if (typeof trustHints !== 'boolean') refuse(TypeError, 'fromMcp', 'trustHints', 'true or false', trustHints);
  checkMilliseconds('fromMcp', 'timeoutMs', timeoutMs);
  checkMilliseconds('fromMcp', 'graceMs', graceMs);
  checkCount('fromMcp', 'maxTools', maxTools);
  checkCount('fromMcp', 'maxDataChars', maxDataChars);
  if (configure !== undefined) checkFunction('fromMcp', 'configure', configure);
}
