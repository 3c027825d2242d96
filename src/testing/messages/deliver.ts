import { errorBody, statusOf } from './apiError.js';
import type { CompletedMessage } from './complete.js';
import type { Exchange } from './exchange.js';
import type { Fault, Pace } from './reply.js';
import { frame, PING, planEvents } from './sse.js';
import type { PlannedEvent } from './sse.js';

type WireFault = Exclude<Fault, { readonly kind: 'max_tokens' }>;

export interface Delivery {
  readonly pace: Required<Omit<Pace, 'deltaMs' | 'pingMs'>> & Pick<Pace, 'deltaMs' | 'pingMs'>;
  readonly fault: Fault | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** A reset overtakes what is still on its way; so long the client gets to read what was sent before. */
const BEFORE_RESET_MS = 10;

/** Sends a message at its pace, streamed or whole, up to the fault if it has one. */
export async function deliver(exchange: Exchange, completed: CompletedMessage, delivery: Delivery): Promise<void> {
  const { pace, fault } = delivery;
  const plan = planEvents(completed, pace.chunkChars);
  exchange.plannedTokens = completed.message.usage.output_tokens;
  if (fault) exchange.record.fault = fault.kind;
  const wireFault = fault?.kind === 'max_tokens' ? undefined : fault;
  if (wireFault?.after === 'request') return strike(exchange, wireFault, delivery);
  await exchange.pause(pace.headersMs);
  if (exchange.ended) return;
  if (exchange.record.stream) await stream(exchange, plan, wireFault, delivery);
  else await whole(exchange, completed, plan, wireFault, delivery);
}

/** The silence before an event. */
function silence({ eventMs, deltaMs = eventMs }: Delivery['pace'], { writes }: PlannedEvent): number {
  return writes ? deltaMs : eventMs;
}

async function stream(exchange: Exchange, plan: readonly PlannedEvent[], fault: WireFault | undefined, delivery: Delivery): Promise<void> {
  exchange.head(200, { ...delivery.headers, 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
  if (fault?.after === 'headers') return strike(exchange, fault, delivery);
  for (const [index, planned] of plan.entries()) {
    if (fault?.after === index) return strike(exchange, fault, delivery);
    await quiet(exchange, silence(delivery.pace, planned), delivery.pace.pingMs);
    await exchange.event(planned.event.type, planned.event, planned.tokens);
    if (exchange.ended) return;
    if (index === 1) await ping(exchange);
  }
  if (fault) return strike(exchange, fault, delivery);
  exchange.complete();
}

async function whole(
  exchange: Exchange,
  { message }: CompletedMessage,
  plan: readonly PlannedEvent[],
  fault: WireFault | undefined,
  delivery: Delivery,
): Promise<void> {
  await exchange.pause(plan.reduce((ms, planned) => ms + silence(delivery.pace, planned), 0));
  if (exchange.ended) return;
  if (fault?.kind === 'error') return strike(exchange, fault, delivery);
  if (!fault) {
    exchange.generated(message.usage.output_tokens);
    exchange.json(200, message, delivery.headers);
    return;
  }
  const text = JSON.stringify(message);
  exchange.head(200, { ...delivery.headers, 'content-type': 'application/json' });
  if (fault.after !== 'headers') await exchange.write(text.slice(0, text.length / 2));
  await strike(exchange, fault, delivery);
}

async function strike(exchange: Exchange, fault: WireFault, { pace, headers }: Delivery): Promise<void> {
  if (exchange.ended) return;
  if (fault.kind === 'stall') return quiet(exchange, Infinity, exchange.record.stream && exchange.headersSent ? pace.pingMs : undefined);
  if (fault.kind === 'error') return void sendError(exchange, fault, headers);
  if (fault.kind === 'fin') return void exchange.fin();
  await exchange.pause(BEFORE_RESET_MS);
  exchange.reset();
}

function sendError(exchange: Exchange, { error = {} }: WireFault & { readonly kind: 'error' }, headers: Delivery['headers']): void {
  const body = errorBody(error.type ?? 'overloaded_error', error, exchange.record.id);
  if (!exchange.headersSent) return exchange.fail(statusOf(body.error.type), { ...error, type: body.error.type }, headers);
  exchange.record.error = body.error.message;
  exchange.fin(frame('error', body));
}

/** Silence, but for pings. */
async function quiet(exchange: Exchange, ms: number, pingMs: number | undefined): Promise<void> {
  if (pingMs === undefined) return ms === Infinity ? exchange.over() : exchange.pause(ms);
  for (let left = ms; left > 0 && !exchange.ended; left -= pingMs) {
    await exchange.pause(Math.min(left, pingMs));
    if (left > pingMs) await ping(exchange);
  }
}

async function ping(exchange: Exchange): Promise<void> {
  if (exchange.ended) return;
  exchange.record.pings += 1;
  await exchange.write(PING);
}
