import { setTimeout as sleep } from 'node:timers/promises';
import type { ToolCall } from 'rxfleet/agents';
import type { Fault, ScriptedCall } from 'rxfleet/testing';
import { hash } from './hash.js';
import type { Around, ToolName } from './tools.js';

/** Of 100 calls, how many meet which fate; the rest do their work. */
const FATES = { fails: 6, hangs: 4, 'is deaf and late': 3, 'is deaf for ever': 2 } as const;
type Fate = keyof typeof FATES;

/** Of 1000 replies, how many break off and how. */
const FAULTS = { reset: 12, fin: 12, stall: 12, error: 12 } as const;

const ODD_CALLS: readonly ScriptedCall[] = [
  { name: 'read_text', input: { path: '../../../../../etc/passwd' } },
  { name: 'run_shell', input: { command: 'npm audit' } },
  { name: 'read_text', input: { path: 42 } },
];
const ODD_SHARE = 0.08;

const LATE_MS = 2_500;

/** Tools that every agent calls: one of them is down for a while. */
const BACKENDS = ['read_manifest', 'list_files', 'read_licence', 'find_install_scripts'] as const;
const OUTAGE_MS = 3_000;
const WAVE_MS = 1_800;

/** Breaks things, always the same things for one seed, in whatever order they happen. */
export class Chaos {
  /** The tool that is down for a while. */
  readonly backend: ToolName;
  private readonly outage: Spell;
  private readonly wave: Spell;

  constructor(
    readonly seed: number,
    agents: number,
  ) {
    this.backend = BACKENDS[Math.floor(BACKENDS.length * hash(seed, 'backend'))] ?? 'list_files';
    this.outage = new Spell(agents * (0.1 + 0.2 * hash(seed, 'outage')), OUTAGE_MS);
    this.wave = new Spell(agents * (2 + hash(seed, 'wave')), WAVE_MS);
  }

  /** Whether the API turns this request away, as it does with everybody for a while. */
  throttles(): boolean {
    return this.wave.strikes();
  }

  /** What comes between the tools of an agent and their work. */
  around(agent: string): Around {
    const calls = new Map<string, number>();
    return (name, call, work) => {
      const n = (calls.get(name) ?? 0) + 1;
      calls.set(name, n);
      if (name === this.backend && this.outage.strikes()) return isDown(call, hash(this.seed, 'down', agent, n) < 0.5 ? 100 : 900);
      const fate = pick(FATES, 100 * hash(this.seed, 'tool', agent, name, n));
      return fate === undefined ? work() : meet(fate, call, work);
    };
  }

  /** How the reply of the model breaks, if it does. */
  faultOf(agent: string, turn: number): Fault | undefined {
    const kind = pick(FAULTS, 1000 * hash(this.seed, 'model', agent, turn));
    return kind && { kind, after: 1 + Math.floor(6 * hash(this.seed, 'after', agent, turn)) };
  }

  /** Calls that a model should not make: out of the package, of a tool that is not there, with an input of the wrong type. */
  oddCallsOf(agent: string, turn: number): readonly ScriptedCall[] {
    if (hash(this.seed, 'odd', agent, turn) >= ODD_SHARE) return [];
    return ODD_CALLS.slice(Math.floor(ODD_CALLS.length * hash(this.seed, 'which', agent, turn))).slice(0, 1);
  }
}

/** Bad weather: begins with the nth that comes along, and strikes everybody for so many milliseconds. */
class Spell {
  private passed = 0;
  private until: number | undefined = undefined;

  constructor(
    private readonly nth: number,
    private readonly ms: number,
  ) {}

  strikes(): boolean {
    if (++this.passed >= this.nth) this.until ??= performance.now() + this.ms;
    return this.until !== undefined && performance.now() < this.until;
  }
}

function pick<K extends string>(shares: Readonly<Record<K, number>>, at: number): K | undefined {
  let sum = 0;
  return (Object.keys(shares) as K[]).find((key) => at < (sum += shares[key]));
}

/** Some calls hear of it at once, others wait for it. */
async function isDown({ signal }: ToolCall, ms: number): Promise<never> {
  await sleep(ms, undefined, { signal });
  throw new Error('ECONNREFUSED: the backend of this tool is down (chaos)');
}

async function meet<T>(fate: Fate, { signal }: ToolCall, work: () => Promise<T>): Promise<T> {
  switch (fate) {
    case 'fails':
      await sleep(50, undefined, { signal });
      throw new Error('EIO: the disk has had enough (chaos)');
    case 'hangs':
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
      });
    case 'is deaf and late': {
      // Its signal is aborted after a second; it neither listens nor holds the process.
      const result = await work();
      await sleep(LATE_MS, undefined, { ref: false });
      return result;
    }
    case 'is deaf for ever':
      return new Promise(() => {});
  }
}
