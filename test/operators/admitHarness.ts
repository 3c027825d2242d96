import { expect } from 'vitest';
import type { Call, CallEnd, Caller, Gate, Lease, Withdraw } from '../../src/gates/gate.js';

/** One caller at a desk, and the lease it may get. Whatever is done with it is noted. */
export class Visit implements Lease<number> {
  readonly ends: CallEnd[] = [];
  readonly history: string[] = [];

  constructor(
    readonly desk: Desk,
    readonly name: string,
    readonly ask: unknown,
    readonly call: Call,
    readonly caller: Caller<unknown, number>,
  ) {}

  grant(what?: unknown): void {
    this.history.push('granted');
    this.caller.granted(this, what);
  }

  refuse(error: unknown = new Error(`${this.desk.name} refuses`)): void {
    this.caller.refused(error as Error);
  }

  revoke(error: unknown = new Error(`${this.desk.name} revokes`), tell?: (() => void)[]): void {
    this.caller.revoked(error as Error, tell);
  }

  withdraw(): void {
    this.done('withdraw');
  }

  begin(): void {
    this.done('begin');
  }

  report(usage: number): void {
    this.done(`report ${usage}`);
  }

  settle(end: CallEnd): (() => Withdraw) | void {
    this.ends.push(end);
    this.done(`settle ${end.kind}`);
    return this.desk.verdict(this, end);
  }

  release(): void {
    this.done('release');
  }

  pump(): void {
    this.done('pump');
  }

  private done(what: string): void {
    this.history.push(what);
    this.desk.note(`${this.name} ${what}`);
    this.desk.on(what, this);
  }
}

/** A gate that does what the test says. By default everybody is granted at once. */
export class Desk implements Gate<unknown, unknown, number> {
  readonly visits: Visit[] = [];
  /** Answers who enters; whoever is not answered waits. What it throws is thrown from `enter`. */
  answer: (visit: Visit) => void = (visit) => visit.grant();
  /** What `settle` returns. */
  verdict: (visit: Visit, end: CallEnd) => (() => Withdraw) | void = () => undefined;
  /** Told of everything that was noted. */
  on: (what: string, visit: Visit) => void = () => {};

  constructor(
    readonly name: string,
    readonly note: (what: string) => void = () => {},
  ) {}

  enter(ask: unknown, call: Call, caller: Caller<unknown, number>): Withdraw {
    const visit = new Visit(this, `${this.name}${this.visits.length + 1}`, ask, call, caller);
    this.visits.push(visit);
    this.note(`${visit.name} enter`);
    this.answer(visit);
    return () => visit.withdraw();
  }

  /** The latest visit. */
  get last(): Visit {
    return this.visits.at(-1) as Visit;
  }

  /** A desk at which everybody waits until the test answers. */
  holding(): this {
    this.answer = () => {};
    return this;
  }

  /** What was granted was settled once and released once, in that order; nothing else was settled at all. */
  expectSettledOnce(): void {
    for (const { name, history } of this.visits) {
      const kinds = history.map((what) => what.split(' ')[0]).filter((what) => what === 'settle' || what === 'release');
      const granted = history.filter((what) => what === 'granted').length;
      expect([name, kinds]).toEqual([name, Array.from({ length: granted }, () => ['settle', 'release']).flat()]);
    }
  }
}
