import { randomUUID } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';
import { agent, fromTool } from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { z } from 'zod';
import { fromMcp } from '../../src/sources/fromMcp.js';
import { ask, sleep, start } from './harness.js';
import { newServer, spy } from './mcpHarness.js';

afterEach(expectNoOpenScopes);

async function serve(mcp: McpServer): Promise<Server> {
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: () => randomUUID() });
  await mcp.connect(transport);
  const http = createServer((request, response) => void transport.handleRequest(request, response));
  await new Promise<void>((resolve) => void http.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    http.closeAllConnections();
    http.close();
  });
  return http;
}

async function connect(mcp: McpServer) {
  const http = await serve(mcp);
  const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`)) as Transport;
  const sent = spy(transport);
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(transport);
  onTestFinished(() => client.close());
  return { client, sent };
}

describe('fromMcp over HTTP', () => {
  it('an agent calls a tool, with progress, and cancelling another reaches the server', async () => {
    const mcp = newServer();
    let running: AbortSignal | undefined;
    mcp.registerTool('count', { inputSchema: { to: z.number() } }, async ({ to }, extra) => {
      const progressToken = extra._meta?.progressToken ?? 'none';
      for (let progress = 1; progress <= to; progress++) {
        await extra.sendNotification({ method: 'notifications/progress', params: { progressToken, progress, total: to } });
        await sleep(5);
      }
      return { content: [{ type: 'text', text: `counted to ${to}` }] };
    });
    mcp.registerTool('slow', {}, (extra) => {
      running = extra.signal;
      return new Promise(() => {});
    });
    const { client, sent } = await connect(mcp);
    const tools = await firstValueFrom(fromMcp(client));

    const { client: model } = await start([reply.toolUse([{ name: 'count', input: { to: 3 } }]), reply.text('ok')]);
    const events = await lastValueFrom(agent({ client: model, ...ask, tools }).pipe(toArray()));
    const told = events.flatMap((event) => (event.type === 'tool' ? [event.event.type] : []));
    expect(told).toEqual(['started', 'progress', 'progress', 'progress', 'result']);
    expect(events.find((event) => event.type === 'turn')?.results).toMatchObject([{ content: 'counted to 3' }]);

    const call = fromTool(tools, { id: 'toolu_1', name: 'slow', input: {} }).subscribe();
    await vi.waitFor(() => expect(running).toBeDefined());
    call.unsubscribe();
    await vi.waitFor(() => expect(running?.aborted).toBe(true));
    expect(sent.at(-1)).toMatchObject({ method: 'notifications/cancelled', params: { reason: 'cancelled' } });
  });

  it('the list is told again when the server says that it has changed', async () => {
    const mcp = newServer();
    mcp.registerTool('one', {}, () => ({ content: [] }));
    const { client } = await connect(mcp);
    const lists: string[][] = [];
    const watch = fromMcp(client, { prefix: 'http_' }).subscribe((list) => lists.push(list.map(({ definition }) => definition.name)));
    await vi.waitFor(() => expect(lists).toHaveLength(1));
    // The client opens the stream for what the server says by itself after it has connected.
    await sleep(100);
    mcp.registerTool('two', {}, () => ({ content: [] }));
    await vi.waitFor(() => expect(lists).toEqual([['http_one'], ['http_one', 'http_two']]));
    watch.unsubscribe();
  });
});
