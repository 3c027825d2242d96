import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { InMemoryTransport } from '@modelcontextprotocol/sdk/inMemory.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { onTestFinished } from 'vitest';

interface Sent {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
}

export interface Connected {
  readonly client: Client;
  /** What the client has sent. */
  readonly sent: Sent[];
}

/** A client of a server in the same process. */
export async function connect(
  server: McpServer | HostileServer,
  client: Client = new Client({ name: 'test', version: '1' }),
): Promise<Connected> {
  const [near, far] = InMemoryTransport.createLinkedPair();
  const sent = spy(near);
  await server.connect(far);
  await client.connect(near);
  onTestFinished(() => client.close());
  return { client, sent };
}

/** Notes down what goes out. */
export function spy(transport: Transport): Sent[] {
  const sent: Sent[] = [];
  const send = transport.send.bind(transport);
  transport.send = (message, options) => {
    sent.push(message as Sent);
    return send(message, options);
  };
  return sent;
}

export const newServer = (): McpServer => new McpServer({ name: 'server', version: '1' });

/** A peer that says what it likes, checked by nobody: its list, page by page, and its answers. */
export function hostileServer(
  list: (cursor: string | undefined) => unknown,
  call: (name: string, input: unknown) => unknown = () => ({ content: [] }),
  capabilities: object = { tools: { listChanged: true } },
): HostileServer {
  const answers: Readonly<Record<string, (params: Params) => unknown>> = {
    initialize: ({ protocolVersion }) => ({ protocolVersion, capabilities, serverInfo: { name: 'hostile', version: '1' } }),
    'tools/list': ({ cursor }) => list(cursor),
    'tools/call': ({ name = '', arguments: input }) => call(name, input),
  };
  const connect = async (transport: Transport): Promise<void> => {
    transport.onmessage = (message) => {
      const { id, method, params = {} } = message as { id?: number; method: string; params?: Params };
      if (id === undefined) return;
      void Promise.resolve()
        .then(() => answers[method]?.(params))
        .then(
          (result) => ({ result }),
          (error: unknown) => ({ error: { code: -32603, message: (error as Error).message } }),
        )
        .then((answer) => transport.send({ jsonrpc: '2.0', id, ...answer } as never));
    };
    await transport.start();
  };
  return { connect };
}

interface HostileServer {
  connect(transport: Transport): Promise<void>;
}

interface Params {
  readonly protocolVersion?: string;
  readonly cursor?: string;
  readonly name?: string;
  readonly arguments?: unknown;
}
