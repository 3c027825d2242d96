import { stripVTControlCharacters } from 'node:util';
import logUpdate from 'log-update';
import { interval } from 'rxjs';
import type { TripRecord } from 'rxfleet';
import type { Agent, Fleet } from './fleet.js';
import { gateRows } from './gateRows.js';
import type { Guards } from './guards.js';
import { clean, compact, cut, fit, meter, paint, plural, seconds } from './text.js';

/** What the user sees while the fleet runs. */
export interface View {
  /** A line that stays. */
  say(line: string): void;
  /** Something happened that somebody should be woken for. */
  tell(trip: TripRecord): void;
  /** The picture goes, what was said stays, the cursor comes back. May be called twice. */
  close(): void;
}

/** What there is to see. */
export interface Scene {
  readonly fleet: Fleet;
  readonly guards: Guards;
  readonly title: string;
}

const FRAME_MS = 80;

/** A screen that redraws itself in a terminal; plain lines anywhere else. */
export function openView(scene: Scene, stdout: NodeJS.WriteStream = process.stdout): View {
  return stdout.isTTY && process.env['TERM'] !== 'dumb' ? liveView(scene, stdout) : plainView(scene, stdout);
}

function liveView(scene: Scene, stdout: NodeJS.WriteStream): View {
  const said: string[] = [];
  const trips: TripRecord[] = [];
  const draw = (): void => {
    // Some terminals say that they have no columns.
    logUpdate(frame(scene, { said, trips, columns: stdout.columns || 80, rows: stdout.rows || 24 }));
  };
  const frames = interval(FRAME_MS).subscribe(draw);
  draw();
  return {
    say: (line) => {
      said.push(line);
      draw();
    },
    tell: (trip) => void trips.push(trip),
    close: () => {
      if (frames.closed) return;
      frames.unsubscribe();
      logUpdate.clear();
      logUpdate.done();
      stdout.write(`${[scene.title, ...said].join('\n')}\n`);
    },
  };
}

export interface Paper {
  readonly said: readonly string[];
  readonly trips: readonly TripRecord[];
  readonly columns: number;
  readonly rows: number;
}

/** Fewer rows have no room for the guards. */
const ROOMY = 20;

/** One picture of the fleet, at most so wide and so high. */
export function frame({ fleet, guards, title }: Scene, { said, trips, columns, rows }: Paper): string {
  const width = columns - 1;
  const table = { ...counters(fleet), ...(rows < ROOMY ? {} : { ...gateRows(guards), trips: tripsRow(trips, width - 8) }) };
  const lines = Object.entries(table).map(([label, parts]) => `${paint('gray', label.padEnd(7))} ${joined(parts, width - 8)}`);
  const head = [paint('bold', cut(title, width)), '', progress(fleet, width), ...lines, ''];
  const running = fleet.with('running').map((agent) => runningLine(agent, fleet.now(), width));
  const notes = said.length > 0 ? ['', ...said.map((line) => paint('yellow', cut(line, width)))] : [];
  const room = rows - 2 - head.length - notes.length;
  const shown = running.slice(0, Math.max(1, room));
  const recent = latest(fleet, room - shown.length - 1).map((agent) => endedLine(agent, width));
  return [...head, ...shown, ...(recent.length > 0 ? ['', ...recent] : []), ...notes].join('\n');
}

function progress(fleet: Fleet, width: number): string {
  const all = fleet.agents.length;
  const over = all - fleet.number('waiting', 'running');
  return `${meter(over / all, Math.min(40, width - 12))} ${over}/${all}`;
}

const lineOf = (trip: TripRecord): string => clean('gate' in trip ? `${trip.gate}: ${trip.message}` : trip.message);

function tripsRow(trips: readonly TripRecord[], width: number): string[] {
  const last = trips.at(-1);
  return [String(trips.length), ...(last === undefined ? [] : [paint('yellow', cut(lineOf(last), width - 6))])];
}

function counters(fleet: Fleet): Record<string, readonly string[]> {
  const { toolCalls, modelCalls, abandoned } = fleet;
  const failed = fleet.number('failed');
  const bad = toolCalls.failed + modelCalls.failed;
  return {
    agents: [
      `${fleet.number('running')} running`,
      `${fleet.number('waiting')} waiting`,
      `${fleet.number('done')} done`,
      alarm(failed, `${failed} failed`),
      `${fleet.number('cancelled', 'not started')} cancelled`,
    ],
    calls: [
      `${fleet.inFlight} in flight`,
      `${toolCalls.settled + modelCalls.settled} done`,
      alarm(bad, `${bad} failed`),
      alarm(abandoned.length, `${abandoned.length} abandoned`),
    ],
    tokens: [`${compact(fleet.inputTokens)} in`, `${compact(fleet.outputTokens)} out`, `time ${seconds(fleet.elapsed)}`],
  };
}

/** As many parts as there is room for. */
function joined(parts: readonly string[], width: number): string {
  const fits = (n: number): boolean => stripVTControlCharacters(parts.slice(0, n).join('  ')).length <= width;
  let n = parts.length;
  while (n > 1 && !fits(n)) n--;
  return parts.slice(0, n).join('  ');
}

const alarm = (n: number, text: string): string => (n > 0 ? paint('red', text) : text);

const nameWidth = (width: number): number => Math.min(30, Math.max(12, Math.floor(width / 3)));

function runningLine(agent: Agent, now: number, width: number): string {
  const name = fit(agent.pkg.name, nameWidth(width));
  const turn = `turn ${agent.turn}`;
  const age = fit(seconds(now - agent.startedAt), -7);
  const room = width - name.length - turn.length - age.length - 6;
  return `${paint('cyan', '▸')} ${name} ${paint('gray', turn)} ${paint('gray', age)}  ${cut(doing(agent, now), room)}`;
}

/** What an agent does right now. */
function doing(agent: Agent, now: number): string {
  if (agent.inFlight.size > 0) {
    const calls = [...agent.inFlight.values()].map(({ name, since, done = '' }) => [name, seconds(now - since), done].join(' ').trim());
    return calls.join(', ');
  }
  if (agent.heldBy !== undefined) return `waits at the ${agent.heldBy}`;
  if (!agent.writing) return 'waits for the model';
  if (agent.asked.length > 0) return `asks for ${agent.asked.join(', ')}`;
  if (agent.text === '') return 'the model thinks';
  return agent.text.includes('{') ? 'writes its verdict' : `“${clean(agent.text).slice(-48)}…”`;
}

/** The agents that ended last, latest first. */
const latest = (fleet: Fleet, most: number): Agent[] =>
  fleet
    .with('done', 'failed', 'cancelled')
    .sort((a, b) => (b.endedAt ?? 0) - (a.endedAt ?? 0))
    .slice(0, Math.max(0, Math.min(8, most)));

function endedLine(agent: Agent, width: number): string {
  const { pkg, status, verdict, problem } = agent;
  const mark = status === 'done' && verdict !== undefined ? paint('green', '✓') : paint('red', '✗');
  const name = fit(pkg.name, nameWidth(width));
  const said = verdict === undefined ? (problem ?? status) : [verdict.risk, ...verdict.reasons.slice(0, 1)].map(clean).join(': ');
  return `${mark} ${name} ${paint('gray', cut(said, width - name.length - 3))}`;
}

function plainView({ fleet, title }: Scene, stdout: NodeJS.WriteStream): View {
  const say = (text: string): void => void stdout.write(`${text}\n`);
  say(title);
  let over = 0;
  fleet.onEnd = (agent) => {
    if (agent.status === 'not started') return;
    const place = `[${fit(String(++over), -String(fleet.agents.length).length)}/${fleet.agents.length}]`;
    say(`${place} ${agent.pkg.name} ${agent.pkg.version}: ${outcomeOf(agent)}`);
  };
  const tell = (trip: TripRecord): void => {
    // That a breaker opens is told once more, with the reason, as a trip.
    if (trip.kind !== 'state' || trip.to !== 'open') say(`  ! ${cut(lineOf(trip), 120)}`);
  };
  return { say, tell, close: () => (fleet.onEnd = () => {}) };
}

function outcomeOf({ status, verdict, problem, turn, calls, startedAt, endedAt = startedAt }: Agent): string {
  const course = `${plural(turn, 'turn')}, ${plural(calls, 'call')}, ${seconds(endedAt - startedAt)}`;
  return `${verdict === undefined ? (problem === undefined ? status : `${status}, ${problem}`) : `${verdict.risk} risk`} (${course})`;
}
