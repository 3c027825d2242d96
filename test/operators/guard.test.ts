import { defer, NEVER, of, throwError, timer, type Subscription } from 'rxjs';
import {
  ApprovalGate,
  CircuitBreaker,
  DepthGate,
  fanOutScoped,
  FleetBudget,
  guard,
  isApprovalDeniedError,
  isBadAskError,
  isBudgetExceededError,
  isCircuitOpenError,
  KeyedLock,
  RetryGate,
  Semaphore,
  TokenBucket,
  type GateEvent,
  type GuardAsk,
} from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { failing, later, virtual } from '../support/virtual.js';

const gates = () => ({
  depth: new DepthGate({ name: 'depth', maxTotal: 100 }),
  approval: new ApprovalGate({ name: 'approval' }),
  retry: new RetryGate({ name: 'retry', random: () => 0 }),
  breaker: new CircuitBreaker({ name: 'breaker' }),
  budget: new FleetBudget({ name: 'budget', usd: '1' }),
  lock: new KeyedLock({ name: 'lock' }),
  semaphore: new Semaphore({ name: 'semaphore', limit: 1 }),
  bucket: new TokenBucket({ name: 'bucket', capacity: 10, refill: { tokens: 1, everyMs: 10 } }),
});
const ask = (): GuardAsk => ({ approval: { id: 'one' }, writes: ['file'], estimate: 100_000, cost: 2 });
const overloaded = Object.assign(new Error('overloaded'), { status: 500 });

describe('guard', () => {
  it('passes the gates from the outside in, and settles them from the inside out', () =>
    virtual(({ flush, at }) => {
      const all = gates();
      const log: string[] = [];
      for (const gate of Object.values(all)) {
        gate.events$.subscribe((event: GateEvent) => {
          if (event.type === 'admitted' || event.type === 'settled') log.push(`${event.gate} ${event.type}`);
        });
      }
      later(5, 'x')
        .pipe(guard({ ...all, ask })())
        .subscribe();
      at(3, () => all.approval.approve('one'));
      flush();
      const names = Object.keys(all);
      expect(log).toEqual([...names.map((name) => `${name} admitted`), ...names.reverse().map((name) => `${name} settled`)]);
      expect(all.budget.snapshot()).toMatchObject({ microUsd: { reserved: 0 } });
    }));

  it('every attempt passes the gates inside of the retry gate; a person is asked once', () =>
    virtual(({ flush }) => {
      const all = gates();
      let tries = 0;
      let asked = 0;
      all.approval.events$.subscribe((event) => {
        if (event.type !== 'approval' || event.outcome !== 'asked') return;
        asked++;
        timer(1).subscribe(() => all.approval.approve('one'));
      });
      const seen: string[] = [];
      defer(() => (++tries < 3 ? throwError(() => overloaded) : of('third time')))
        .pipe(guard({ ...all, ask })())
        .subscribe({ next: (value) => seen.push(value), error: (error: unknown) => seen.push(String(error)) });
      flush();
      expect([seen, tries, asked, all.bucket.snapshot().seq]).toEqual([['third time'], 3, 1, 3]);
    }));

  it('refuses where the first gate in the order refuses, and pays back what was taken before', () =>
    virtual(({ flush }) => {
      const all = gates();
      const small = new FleetBudget({ name: 'small', usd: '0.05' });
      const { approval: _, ...rest } = all;
      const errors: unknown[] = [];
      NEVER.pipe(guard({ ...rest, budget: small, ask })()).subscribe({ error: (error: unknown) => errors.push(error) });
      flush();
      expect(isBudgetExceededError(errors[0])).toBe(true);
      expect([all.bucket.snapshot().seq, all.semaphore.snapshot().inUse, all.breaker.snapshot().state]).toEqual([0, 0, 'closed']);
    }));

  it('a gate may be picked for each call, and what is picked may be nothing', () =>
    virtual(({ flush }) => {
      const breakers = new Map(['a', 'b'].map((name) => [name, new CircuitBreaker({ name, failures: 1 })]));
      const picky = guard<string>({ breaker: (name) => breakers.get(name) });
      const errors: string[] = [];
      const call = (name: string) =>
        failing(1, overloaded)
          .pipe(picky(name))
          .subscribe({ error: (error: unknown) => errors.push(isCircuitOpenError(error) ? `open ${error.gate}` : 'failed') });
      call('a');
      flush();
      for (const name of ['a', 'b', 'c']) call(name);
      flush();
      expect(errors).toEqual(['failed', 'open a', 'failed', 'failed']);
    }));

  it('the time limit begins when all gates have let the call in, and the breaker hears of it', () =>
    virtual(({ flush }) => {
      const breaker = new CircuitBreaker({ name: 'b', failures: 1 });
      const semaphore = new Semaphore({ limit: 1 });
      const limited = guard({ breaker, semaphore, timeoutMs: 5 });
      const out: string[] = [];
      const seen = { next: (value: string) => out.push(value), error: (error: unknown) => out.push((error as Error).name) };
      later(4, 'a').pipe(limited()).subscribe(seen);
      later(4, 'b').pipe(limited()).subscribe(seen);
      NEVER.pipe(limited()).subscribe(seen);
      flush();
      expect([out, breaker.snapshot().state]).toEqual([['a', 'b', 'DeadlineExceededError'], 'open']);
    }));

  it('`ctx` is the scope of the call where it is not seen by itself', () =>
    virtual(({ flush, at }) => {
      let open: (() => Subscription) | undefined;
      const polite = guard({ semaphore: new Semaphore({ limit: 1 }) });
      const out: string[] = [];
      of(1)
        .pipe(
          fanOutScoped((_n, _i, ctx) => {
            open = () => NEVER.pipe(polite(undefined, ctx)).subscribe({ error: (error: unknown) => out.push((error as Error).name) });
            return later(10, 'x');
          }),
        )
        .subscribe({ complete: () => out.push('complete') });
      let call: Subscription | undefined;
      at(5, () => (call = open?.()));
      at(20, () => {
        out.push('still open');
        call?.unsubscribe();
      });
      flush();
      expect(out).toEqual(['still open', 'complete']);
    }));

  it('what `ask` throws, and a budget without an estimate, fail that call only', () =>
    virtual(({ flush }) => {
      const errors: unknown[] = [];
      const error = (each: unknown): void => void errors.push(each);
      const boom = new Error('boom');
      of(1)
        .pipe(
          guard({
            semaphore: new Semaphore({ limit: 1 }),
            ask: () => {
              throw boom;
            },
          })(),
        )
        .subscribe({ error });
      of(1)
        .pipe(guard({ budget: new FleetBudget({ usd: '1' }) })())
        .subscribe({ error });
      flush();
      expect([errors[0], isBadAskError(errors[1])]).toEqual([boom, true]);
    }));

  it('a call may wait for room in the budget', () =>
    virtual(({ flush }) => {
      const budget = new FleetBudget({ name: 'fleet', microUsd: 100 });
      const waiting = guard({ budget, ask: () => ({ estimate: 60, onExceed: 'wait', used: () => ({ charged: 10 }) }) });
      const out: string[] = [];
      for (const name of ['a', 'b'])
        later(3, name)
          .pipe(waiting())
          .subscribe((value) => out.push(value));
      expect(budget.snapshot()).toMatchObject({ waiting: 1 });
      flush();
      expect([out, budget.snapshot().microUsd.spent]).toEqual([['a', 'b'], 20]);
    }));

  it('a denied call is refused, and unsubscribing withdraws the question', () =>
    virtual(({ flush, at }) => {
      const approval = new ApprovalGate({ name: 'boss' });
      const errors: unknown[] = [];
      const asking = guard<string>({ approval, ask: (id) => ({ approval: { id } }) });
      NEVER.pipe(asking('a')).subscribe({ error: (error: unknown) => errors.push(error) });
      const left = NEVER.pipe(asking('b')).subscribe();
      at(1, () => approval.deny('a', 'too dear'));
      at(2, () => left.unsubscribe());
      flush();
      expect(isApprovalDeniedError(errors[0]) && errors[0].reason).toBe('too dear');
      expect(approval.snapshot()).toMatchObject({ pending: [] });
    }));

  it('is checked by name', () => {
    expect(() => guard({ bucket: {} as never })).toThrow('guard: bucket must be a gate');
    expect(() => guard({ ask: 5 as never })).toThrow('guard: ask must be a function');
    expect(() => guard({ timeoutMs: -1 })).toThrow(RangeError);
    expect(() => guard(null as never)).toThrow(TypeError);
  });
});
