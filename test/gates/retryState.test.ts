import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RetryState, type RetryTicket } from '../../src/gates/retryState.js';

const ticket = (): RetryTicket => ({ epoch: 0, grantedAt: 0 });
const draw = (backoffMs = 0, jitterMs = 0): { backoffMs: number; jitterMs: number } => ({ backoffMs, jitterMs });

function enter(state: RetryState, now = 0): RetryTicket {
  const one = ticket();
  expect(state.room).toBe(true);
  state.take(one, now);
  return one;
}

const machine = (rules: Partial<ConstructorParameters<typeof RetryState>[0]> = {}): RetryState =>
  new RetryState({ initial: 1, step: 1, probeMaxMs: 1_000, ...rules });

/** A machine after its first pause, at 100. */
function reopened(rules: Partial<ConstructorParameters<typeof RetryState>[0]> = {}): RetryState {
  const state = machine(rules);
  state.throttled(enter(state), 0, 100, draw());
  expect(state.advance(100)).toBe(true);
  return state;
}

describe('the shared pause', () => {
  it('an open gate lets everybody pass #2.4', () => {
    const state = machine();
    for (let i = 0; i < 1_000; i++) enter(state);
    expect(state).toMatchObject({ phase: 'open', epoch: 0, level: 0, probing: 0, nextAt: Infinity });
  });

  it('the first throttle of an epoch begins the next one and closes the gate for the longer of Retry-After and backoff, plus jitter #2.4', () => {
    for (const [asked, backoffMs, jitterMs, until] of [
      [1_000, 300, 50, 1_060],
      [200, 300, 50, 360],
      [undefined, 300, 50, 360],
      [undefined, 0, 0, 11],
      [1, 0, 0, 11],
    ] as const) {
      const state = machine();
      expect(state.throttled(enter(state), 10, asked, draw(backoffMs, jitterMs))).toBe(true);
      expect(state).toMatchObject({ phase: 'closed', epoch: 1, level: 1, until, room: false, nextAt: until });
      expect(state.advance(until - 1)).toBe(false);
      expect(state.room).toBe(false);
      expect(state.advance(until)).toBe(true);
      expect(state).toMatchObject({ phase: 'reopening', allowance: 1, room: true });
      expect(state.advance(until)).toBe(false);
    }
  });

  it('throttles of calls that were in flight extend the pause by their Retry-After, and only extend it, but do not raise the level #2.4', () => {
    const state = machine();
    const [one, two, three, four] = [enter(state), enter(state), enter(state), enter(state)];
    state.throttled(one, 0, 100, draw(0, 10));
    expect(state.throttled(two, 50, 20, draw(5_000, 5_000))).toBe(false);
    expect(state.until).toBe(110);
    expect(state.throttled(three, 60, 100, undefined)).toBe(true);
    expect(state.until).toBe(170);
    expect(state.throttled(four, 70, undefined, draw(5_000))).toBe(false);
    expect(state).toMatchObject({ phase: 'closed', until: 170, epoch: 1, level: 1 });
  });

  it('a Retry-After holds also when it comes late from a call of an earlier epoch #2.4', () => {
    const state = machine();
    const [late, later, one] = [enter(state), enter(state), enter(state)];
    state.throttled(one, 0, 100, draw());
    state.advance(100);
    expect(state.throttled(late, 150, undefined, undefined)).toBe(false);
    expect(state.phase).toBe('reopening');
    expect(state.throttled(later, 150, 500, undefined)).toBe(true);
    expect(state).toMatchObject({ phase: 'closed', until: 650, epoch: 1, level: 1 });
  });

  it('a success of an earlier epoch changes nothing #2.4', () => {
    const state = machine();
    const [old, one] = [enter(state), enter(state)];
    state.throttled(one, 0, 100, draw());
    state.advance(100);
    state.succeeded(old);
    expect(state).toMatchObject({ phase: 'reopening', level: 1, allowance: 1 });
  });

  it('after the pause one call goes in, and each success lets one more be in flight #2.4', () => {
    const state = reopened();
    const probe = enter(state, 100);
    expect(state).toMatchObject({ room: false, probing: 1 });
    state.succeeded(probe);
    expect(state).toMatchObject({ allowance: 2, level: 0 });
    const [two, three] = [enter(state, 110), enter(state, 110)];
    expect(state.room).toBe(false);
    state.succeeded(two);
    state.succeeded(three);
    expect(state).toMatchObject({ allowance: 4, probing: 0 });
    for (let i = 0; i < 4; i++) enter(state, 120);
    expect(state.room).toBe(false);
  });

  it('initial and step are options #2.4', () => {
    const state = reopened({ initial: 3, step: 5 });
    const probes = [enter(state), enter(state), enter(state)];
    expect(state.room).toBe(false);
    state.succeeded(probes[0] as RetryTicket);
    expect(state).toMatchObject({ allowance: 8, probing: 2 });
  });

  it('a throttled probe closes the gate again at the next level; a success of the epoch resets it #2.4', () => {
    const state = reopened();
    expect(state.isNews(ticket())).toBe(false);
    const probe = enter(state, 100);
    expect(state.isNews(probe)).toBe(true);
    state.throttled(probe, 110, undefined, draw(40));
    expect(state).toMatchObject({ phase: 'closed', epoch: 2, level: 2, until: 150, probing: 0 });
    state.advance(150);
    state.succeeded(enter(state, 150));
    expect(state.level).toBe(0);
    const next = enter(state, 160);
    state.throttled(next, 170, undefined, draw(40));
    expect(state).toMatchObject({ epoch: 3, level: 1 });
  });

  it('the slow start is over when nobody waits and there is room to spare after a success #2.4', () => {
    const state = reopened();
    state.relax();
    expect(state.phase).toBe('reopening');
    const probe = enter(state, 100);
    state.left(probe);
    state.relax();
    expect(state).toMatchObject({ phase: 'reopening', room: true });
    state.succeeded(enter(state, 100));
    const [one, two] = [enter(state, 110), enter(state, 110)];
    state.relax();
    expect(state.phase).toBe('reopening');
    state.succeeded(one);
    state.relax();
    expect(state).toMatchObject({ phase: 'open', probing: 0, room: true });
    state.throttled(two, 200, 50, draw());
    expect(state).toMatchObject({ phase: 'closed', epoch: 2, level: 1, until: 250 });
  });

  it('each slow start begins anew: nothing of the last one counts #2.4', () => {
    const state = reopened({ initial: 2 });
    enter(state, 100);
    state.succeeded(enter(state, 100));
    state.throttled(enter(state, 110), 120, 30, draw());
    state.advance(150);
    expect(state).toMatchObject({ phase: 'reopening', allowance: 2, probing: 0 });
    state.relax();
    expect(state.phase).toBe('reopening');
  });

  it('a probe that says nothing gives its place to the next #2.4', () => {
    const state = reopened();
    for (let i = 0; i < 5; i++) state.left(enter(state, 100));
    expect(state).toMatchObject({ phase: 'reopening', allowance: 1, level: 1, room: true });
  });

  it('a probe that hangs loses its place after probeMaxMs, and counts when it ends all the same #2.4', () => {
    const state = reopened();
    const hung = enter(state, 100);
    expect(state.nextAt).toBe(1_100);
    state.advance(1_099);
    expect(state.room).toBe(false);
    state.advance(1_100);
    expect(state).toMatchObject({ room: true, probing: 0, nextAt: Infinity });
    const next = enter(state, 1_100);
    expect(state.nextAt).toBe(2_100);
    state.succeeded(hung);
    expect(state).toMatchObject({ allowance: 2, probing: 1 });
    state.left(next);
    expect(state.probing).toBe(0);
  });

  it('a Retry-After during the slow start leaves probes where they are', () => {
    const state = machine();
    const [old, one] = [enter(state), enter(state)];
    state.throttled(one, 0, 100, draw());
    state.advance(100);
    const probe = enter(state, 100);
    state.throttled(old, 110, 100, undefined);
    expect(state.phase).toBe('closed');
    state.advance(210);
    expect(state).toMatchObject({ phase: 'reopening', room: false });
    state.succeeded(probe);
    expect(state).toMatchObject({ room: true, allowance: 2 });
  });

  it('whatever happens, the level rises once an epoch, pauses only grow, in flight stays within bounds, and it never sticks', () => {
    const step = fc.record({
      do: fc.constantFrom('enter', 'enter', 'succeed', 'throttle', 'throttle', 'leave', 'wait', 'relax'),
      pick: fc.nat(),
      ms: fc.nat(400),
      asked: fc.option(fc.integer({ min: 1, max: 500 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 200 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        (steps, initial, by) => {
          const state = machine({ initial, step: by });
          const live: RetryTicket[] = [];
          const pick = (n: number): RetryTicket | undefined => (live.length === 0 ? undefined : live.splice(n % live.length, 1)[0]);
          let now = 0;
          for (const { do: action, pick: n, ms, asked } of steps) {
            const { epoch, level, until, phase } = state;
            if (action === 'wait') now += ms;
            state.advance(now);
            if (action === 'enter' && state.room) live.push(enter(state, now));
            if (action === 'relax') state.relax();
            const one = action === 'succeed' || action === 'throttle' || action === 'leave' ? pick(n) : undefined;
            if (one !== undefined && action === 'succeed') state.succeeded(one);
            if (one !== undefined && action === 'leave') state.left(one);
            if (one !== undefined && action === 'throttle') {
              const news = one.epoch === epoch;
              state.throttled(one, now, asked, draw(ms));
              expect(state.epoch).toBe(epoch + (news ? 1 : 0));
              expect(state.level).toBe(level + (news ? 1 : 0));
              if (phase === 'closed' && now < until) expect(state.until).toBeGreaterThanOrEqual(until);
              if (asked !== undefined) expect(state.until).toBeGreaterThanOrEqual(now + asked);
            }
            if (state.phase === 'closed') expect(state.room).toBe(false);
            expect(state.probing).toBeLessThanOrEqual(state.allowance);
            expect(state.room || state.nextAt < Infinity).toBe(true);
          }
          state.advance(now + 1_000);
          state.advance(now + 2_000);
          expect(state.room).toBe(true);
        },
      ),
      { numRuns: 1_000 },
    );
  });
});
