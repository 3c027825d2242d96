import { LIMIT, type Spending } from './fleetSpend.js';
import type { Figures } from './figures.js';
import type { Span } from './oneAtATime.js';
import { OUTAGE_MS, type Wave } from './retryWave.js';
import { bars, type Class, line, picture, type Point, rect, scale, steps, text, WIDTH } from './svg.js';
import { count, dollars, seconds } from './words.js';

type Scale = (value: number) => number;
type Side = Extract<Class, 'without' | 'with'>;
const [LEFT, RIGHT] = [44, WIDTH - 16];

/** The pictures of the guide, by the name of their file. */
export function pictures(figures: Figures): Readonly<Record<string, string>> {
  return {
    'limits-retry.svg': retryPicture(figures),
    'limits-budget.svg': budgetPicture(figures),
    'limits-breaker.svg': breakerPicture(figures),
    'limits-bulkhead.svg': bulkheadPicture(figures),
  };
}

// The retry wave: requests in each second

const LAST_SECOND = 75;

function retryPicture({ wave }: Figures): string {
  const panels: [string, Wave, Side][] = [
    ['Each alone, full jitter', wave.jitter, 'without'],
    ['Each alone, Retry-After', wave.without, 'without'],
    ['One shared gate', wave.with, 'with'],
  ];
  const said = panels.map(([name, { sent, doneMs }]) => `${name}: ${count(sent.length)} requests, done at ${seconds(doneMs)}`);
  const desc = `Requests in each second. The server is down for 10 seconds and then serves 10 in each. ${said.join('. ')}.`;
  const body = panels.flatMap(([, { sent }, side], i) => wavePanel(24 + i * 152, said[i] ?? '', sent, side));
  return picture('200 callers after an outage', desc, 496, [...body, ...timeAxis(470, LAST_SECOND, 15)]);
}

function wavePanel(top: number, title: string, sent: readonly number[], side: Side): string[] {
  const [x, y] = [scale(LEFT, RIGHT, LAST_SECOND), scale(top + 124, top + 20, 500)];
  const inSecond = Array.from({ length: LAST_SECOND }, () => 0);
  for (const ms of sent) inSecond[Math.floor(ms / 1_000)]!++;
  return [
    text(8, top, title.replace(':', ' ·'), 'strong', side),
    rect(x(0), top + 14, x(OUTAGE_MS / 1_000) - x(0), 110, 'shade'),
    text(x(OUTAGE_MS / 1_000) + 6, top + 32, 'outage until 10 s', 'quiet'),
    ...[0, 200, 400].map((n) => text(LEFT - 6, y(n) + 5, String(n), 'quiet', 'end')),
    bars(x(0), x(1) - x(0), y(0), inSecond.map(y), side),
    line([LEFT, y(0)], [RIGHT, y(0)], 'axis'),
  ];
}

function timeAxis(y: number, last: number, every: number): string[] {
  const x = scale(LEFT, RIGHT, last);
  const ticks = Array.from({ length: Math.floor(last / every) + 1 }, (_, i) => i * every);
  return ticks.map((at) => text(x(at), y, at === 0 ? '0' : `${at} s`, 'quiet', 'middle'));
}

// The budget: dollars spent over time

type Drawn = Spending & { readonly agents: number };

function budgetPicture({ budgets }: Figures): string {
  const said = budgets.map(
    ({ agents, ...spent }) => `${agents} agents spend ${dollars(spent.without.total)} or ${dollars(spent.with.total)}`,
  );
  const desc = `Dollars spent over time under a limit of $1.00, without and with money set aside. ${said.join('. ')}.`;
  const drawn = (side: Side): Drawn[] => budgets.map((budget) => ({ agents: budget.agents, ...budget[side] }));
  return picture('A limit of $1.00', desc, 440, [
    ...budgetPanel(24, 210, 'Look, call, add up', 7, drawn('without'), 'without'),
    ...budgetPanel(280, 130, 'Set aside, call, settle', 2, drawn('with'), 'with'),
    ...timeAxis(430, 12, 3),
  ]);
}

function budgetPanel(top: number, height: number, title: string, most: number, drawn: readonly Drawn[], side: Side): string[] {
  const [x, y] = [scale(LEFT, RIGHT, 12_000), scale(top + height, top + 14, most * LIMIT)];
  return [
    text(8, top, title, 'strong', side),
    ...Array.from({ length: most + 1 }, (_, n) => text(LEFT - 6, y(n * LIMIT) + 5, `$${n}`, 'quiet', 'end')),
    line([LEFT, y(0)], [RIGHT, y(0)], 'axis'),
    line([LEFT, y(LIMIT)], [RIGHT, y(LIMIT)], 'limit'),
    ...drawn.map(({ spent }) =>
      steps(
        spent.map(([ms, microUsd]): Point => [x(ms), y(microUsd)]),
        side,
      ),
    ),
    ...endLabels(drawn, side, x, y),
  ];
}

/** At the end of each line, or above it; lines that end in the same place have one label. */
function endLabels(drawn: readonly Drawn[], side: Side, x: Scale, y: Scale): string[] {
  const ends = new Map(drawn.map(({ spent, total }) => [total, spent.at(-1)?.[0] ?? 0]));
  return [...ends].map(([total, ms]) => {
    const same = drawn.filter((one) => one.total === total).map(({ agents }) => agents);
    const words = `${same.join(' and ')} agents: ${dollars(total)}`;
    if (side === 'without' && ms < 6_000) return text(x(ms) + 6, y(total) + 5, words, side);
    return text(ms > 9_000 ? RIGHT : x(ms), y(Math.max(total, LIMIT)) - 10, words, side, 'end');
  });
}

// The breaker: tokens billed over time

function breakerPicture({ trip }: Figures): string {
  const [x, y] = [scale(LEFT, RIGHT, 60_000), scale(270, 40, 35_000)];
  const { trippedMs, afterTrip } = trip.without;
  const path = (side: Side): readonly Point[] =>
    [...trip[side].billed, [60_000, trip[side].total] as const].map(([ms, n]) => [x(ms), y(n)]);
  const desc =
    `Tokens billed over time for 15 calls in flight. The breaker trips at ${seconds(trippedMs)}. When it only refuses new calls, ` +
    `${count(afterTrip)} more tokens are billed; when it stops those in flight, ${count(trip.with.afterTrip)}.`;
  return picture('A trip with 15 calls in flight', desc, 310, [
    text(8, 24, 'Tokens billed for 15 answers in flight', 'strong'),
    ...[0, 10_000, 20_000, 30_000].map((n) => text(LEFT - 6, y(n) + 5, n === 0 ? '0' : `${n / 1_000}k`, 'quiet', 'end')),
    line([LEFT, y(0)], [RIGHT, y(0)], 'axis'),
    line([x(trippedMs), y(0)], [x(trippedMs), 44], 'limit'),
    text(x(trippedMs) + 6, 56, `trips at ${seconds(trippedMs)}`, 'quiet'),
    steps(path('without'), 'without'),
    steps(path('with'), 'with'),
    text(RIGHT, y(20_500), 'refuses new calls only:', 'without', 'end'),
    text(RIGHT, y(20_500) + 18, `${count(afterTrip)} more`, 'without', 'end', 'strong'),
    text(RIGHT, y(10_500) + 22, 'stops the calls in flight:', 'with', 'end'),
    text(RIGHT, y(10_500) + 40, `${count(trip.with.afterTrip)} more`, 'with', 'end', 'strong'),
    ...timeAxis(294, 60, 15),
  ]);
}

// The bulkhead: which call is live when

function bulkheadPicture({ day }: Figures): string {
  const told = (side: Side): string =>
    day[side].spans.map(({ name, from, to }) => `${name} from ${from / 1_000} to ${to / 1_000} s`).join(', ');
  const desc =
    `Three calls behind one permit; the second is cancelled at 5 s and has stopped at 7 s. The permit goes back when it is cancelled: ` +
    `${told('without')}. The permit goes back when it has stopped: ${told('with')}.`;
  return picture('One call at a time', desc, 312, [
    ...spansPanel(24, `Permit back at the unsubscribe · ${day.without.mostLive} live`, day.without.spans, 'without'),
    ...spansPanel(166, `Permit back when it has stopped · ${day.with.mostLive} live`, day.with.spans, 'with'),
    ...timeAxis(300, 10, 5),
  ]);
}

function spansPanel(top: number, title: string, spans: readonly Span[], side: Side): string[] {
  const x = scale(LEFT, RIGHT, 10_000);
  const rows = spans.flatMap(({ name, from, cancelled = Infinity, to }, row) => {
    const [y, until] = [top + 14 + row * 32, Math.min(to, cancelled)];
    const stopping = [rect(x(until), y, x(to) - x(until), 24, side, 'pale'), text(x(until) + 6, y + 17, 'stopping', 'quiet')];
    return [text(LEFT - 12, y + 17, name, 'end'), rect(x(from), y, x(until) - x(from), 24, side), ...(until < to ? stopping : [])];
  });
  return [text(8, top, title, 'strong', side), ...rows, line([LEFT, top + 112], [RIGHT, top + 112], 'axis')];
}
