import { stripVTControlCharacters } from 'node:util';
import logUpdate from 'log-update';
import { interval } from 'rxjs';
import type { PendingApproval, TripRecord } from 'rxfleet';
import type { Approvals } from './approvals.js';
import { agentIn, type Agent, type Fleet } from './fleet.js';
import { gateRows } from './gateRows.js';
import type { Guards } from './guards.js';
import { isRecord } from './json.js';
import { clean, compact, cut, fit, meter, paint, plural, seconds, wrap } from './text.js';
import { treeOf, type Row } from './tree.js';

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
  readonly approvals: Approvals;
  readonly title: string;
}

const FRAME_MS = 80;

/** A screen that redraws itself in a terminal; plain lines anywhere else. */
export function openView(scene: Scene, stdout: NodeJS.WriteStream = process.stdout): View {
  return isLive(stdout) ? liveView(scene, stdout) : plainView(scene, stdout);
}

/** Whether there is a screen that can be redrawn. */
export const isLive = (stdout: NodeJS.WriteStream): boolean => stdout.isTTY && process.env['TERM'] !== 'dumb';

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

/** Fewer rows have no room for the guards. A question takes some: in a low terminal, those of the counters. */
const ROOMY = 20;
const ROOMY_ASKING = 30;

/** One picture of the fleet, at most so wide and so high. */
export function frame({ fleet, guards, approvals, title }: Scene, { said, trips, columns, rows }: Paper): string {
  const width = columns - 1;
  const { questions } = approvals;
  const roomy = rows >= (questions.length > 0 ? ROOMY_ASKING : ROOMY);
  const table = { ...counters(fleet), ...(!roomy ? {} : { ...gateRows(guards), trips: tripsRow(trips, width - 8) }) };
  const lines = Object.entries(table).map(([label, parts]) => `${paint('gray', label.padEnd(7))} ${joined(parts, width - 8)}`);
  const question = asked(questions, width, rows < ROOMY ? 1 : 3);
  const top = [paint('bold', cut(title, width)), '', progress(fleet, width), ...lines, ''];
  const head = rows >= ROOMY || question.length === 0 ? top : [progress(fleet, width), ''];
  const running = treeOf(fleet.agents, ({ status }) => status === 'running').map((row) => runningLine(row, fleet.now(), width));
  const notes = [...question, ...(said.length > 0 ? ['', ...said.map((line) => paint('yellow', cut(line, width)))] : [])];
  const room = Math.max(1, rows - 2 - head.length - notes.length);
  const left = running.length - room + 1;
  const shown = left > 1 && room > 1 ? [...running.slice(0, -left), paint('gray', `  and ${left} more`)] : running.slice(0, room);
  const recent = latest(fleet, room - shown.length - 1).map((agent) => endedLine(agent, width));
  return [...head, ...shown, ...(recent.length > 0 ? ['', ...recent] : []), ...notes].join('\n');
}

/** The first question, and how to answer it. What is asked comes from a model, which may have it from a package. */
function asked([first, ...others]: readonly PendingApproval[], width: number, lines: number): string[] {
  if (first === undefined) return [];
  const { path, title = '', input, expiresInMs = Infinity } = first;
  const left = expiresInMs < Infinity ? `${Math.ceil(expiresInMs / 1000)} s left` : '';
  const more = others.length > 0 ? `${others.length} more` : '';
  const answers = ['y yes', 'n no', 'a yes to all', left, more].filter((part) => part !== '').join('   ');
  return [
    '',
    paint('yellow', cut(`? ${clean(agentIn(path) ?? '')} asks: ${clean(title)}`, width)),
    ...wrap(inWords(input), width - 2, lines).map((line) => `  ${line}`),
    paint('yellow', cut(`  ${answers}`, width)),
  ];
}

const inWords = (input: unknown): string =>
  clean(
    Object.entries(isRecord(input) ? input : {})
      .map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`)
      .join(', '),
  );

function progress(fleet: Fleet, width: number): string {
  const all = fleet.all.length;
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

function runningLine({ agent, stem }: Row, now: number, width: number): string {
  const name = fit(`${stem}${agent.pkg.name}`, nameWidth(width));
  const turn = `turn ${agent.turn}`;
  const age = fit(seconds(now - agent.startedAt), -7);
  const room = width - name.length - turn.length - age.length - 6;
  return `${stem === '' ? paint('cyan', '▸') : ' '} ${name} ${paint('gray', turn)} ${paint('gray', age)}  ${cut(doing(agent, now), room)}`;
}

/** What an agent does right now. */
function doing(agent: Agent, now: number): string {
  if (agent.inFlight.size > 0) {
    const calls = [...agent.inFlight.values()].map(({ name, since, done = '' }) => [name, seconds(now - since), done].join(' ').trim());
    return calls.join(', ');
  }
  if (agent.asking.size > 0) return 'waits for your answer';
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
  const name = fit(`${agent.above === undefined ? '' : '└─ '}${pkg.name}`, nameWidth(width));
  const said = verdict === undefined ? (problem ?? status) : [verdict.risk, ...verdict.reasons.slice(0, 1)].map(clean).join(': ');
  return `${mark} ${name} ${paint('gray', cut(said, width - name.length - 3))}`;
}

function plainView({ fleet, approvals, title }: Scene, stdout: NodeJS.WriteStream): View {
  const say = (text: string): void => void stdout.write(`${text}\n`);
  say(title);
  let over = 0;
  fleet.onEnd = (agent) => {
    if (agent.status === 'not started') return;
    if (agent.above !== undefined) {
      const { above, pkg, depth } = agent;
      say(`${' '.repeat(4 + 2 * depth)}└─ ${pkg.name} ${pkg.version} of ${above.pkg.name}: ${outcomeOf(agent)}`);
      return;
    }
    const place = `[${fit(String(++over), -String(fleet.agents.length).length)}/${fleet.agents.length}]`;
    say(`${place} ${agent.pkg.name} ${agent.pkg.version}: ${outcomeOf(agent)}`);
  };
  approvals.onAutomatic = ({ path, title = '', input }) => {
    const question = `${clean(agentIn(path) ?? '')} asks: ${clean(title)}, ${inWords(input)}`;
    say(`  ? ${cut(question, 120)} (approved, because there is nobody to ask)`);
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
