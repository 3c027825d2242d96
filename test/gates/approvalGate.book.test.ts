import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ApprovalBook, type Asked, type Entry } from '../../src/gates/approvalBook.js';
import { DueQueue, type Due } from '../../src/gates/dueQueue.js';

type Book = ApprovalBook<string, string>;
type Page = Entry<string, string>;

function book(keepMs = 100, maxKept = 2): Book {
  return new ApprovalBook('desk', { keepMs, maxKept });
}

type More = Partial<Pick<Asked<string, string>, 'key' | 'dueAt' | 'waiter' | 'request'>> & { readonly keep?: boolean };

function ask(of: Book, id: string | undefined, now = 0, more: More = {}): Page | undefined {
  const { keep = false, key = keep ? id : undefined, dueAt = Infinity, waiter = 'somebody', request = `request ${id}` } = more;
  return of.ask({ id, request, key, waiter, dueAt }, now);
}

describe('DueQueue', () => {
  it('gives what is due in order of time and then of arrival, whatever was taken out in between', () => {
    const step = fc.oneof(fc.record({ add: fc.nat(50) }), fc.record({ take: fc.nat() }), fc.constant('first' as const));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const queue = new DueQueue<Due>();
        let model: Due[] = [];
        for (const each of steps) {
          if (each === 'first') {
            const { first } = queue;
            const least = Math.min(...model.map((item) => item.dueAt));
            expect(first).toBe(model.find((item) => item.dueAt === least));
            if (first !== undefined) queue.remove(first);
            model = model.filter((item) => item !== first);
          } else if ('add' in each) {
            const item = { dueAt: each.add, slot: -1, turn: 0 };
            queue.add(item);
            model.push(item);
          } else if (model.length > 0) {
            const [item] = model.splice(each.take % model.length, 1) as [Due];
            queue.remove(item);
            queue.remove(item);
          }
          expect(queue.size).toBe(model.length);
        }
      }),
    );
  });
});

describe('ApprovalBook', () => {
  it('numbers requests without an id, past ids that are taken', () => {
    const desk = book();
    ask(desk, 'desk-2');
    expect([ask(desk, undefined)?.id, ask(desk, undefined)?.id]).toEqual(['desk-1', 'desk-3']);
  });

  it('an id that somebody waits under is taken, and free again once decided or left', () => {
    const desk = book();
    const first = ask(desk, 'a') as Page;
    expect(ask(desk, 'a')).toBeUndefined();
    desk.decide(first, { kind: 'approved', input: 1 }, 0);
    const second = ask(desk, 'a') as Page;
    expect(second.decision).toBeUndefined();
    desk.leave(second);
    expect(ask(desk, 'a')).toBeDefined();
    expect(desk.size).toBe(1);
  });

  it('a request that is kept outlives whoever asked, and is joined under its id', () => {
    const desk = book();
    const first = ask(desk, 'a', 0, { keep: true }) as Page;
    desk.leave(first);
    expect(desk.size).toBe(1);
    expect(ask(desk, 'a', 5, { waiter: 'again' })).toBe(first);
    expect(first.waiter).toBe('again');
    expect(ask(desk, 'a', 6)).toBeUndefined();
    desk.leave(first);
    expect(desk.size).toBe(0);
  });

  it('a request that is kept under a key goes by the id under which it is asked again; the same one may be kept several times', () => {
    const desk = book();
    const [first, second] = ['a', 'b'].map((id) => ask(desk, id, 0, { key: 'mail', request: 'mail' }) as Page) as [Page, Page];
    desk.leave(first);
    desk.leave(second);
    desk.decide(second, { kind: 'approved', input: 2 }, 1);
    expect(ask(desk, 'c', 2, { key: 'mail', request: 'mail' })).toBe(first);
    expect([desk.find('a'), desk.find('c')?.id]).toEqual([undefined, 'c']);
    expect(ask(desk, 'd', 2, { key: 'mail', request: 'mail' })?.decision).toEqual({ kind: 'approved', input: 2 });
    expect(ask(desk, 'e', 2, { key: 'mail', request: 'mail' })?.decision).toBeUndefined();
    expect([desk.size, desk.remembered]).toEqual([2, 0]);
  });

  it('of several that are the same, whoever asks under an id gets what was left under it', () => {
    const desk: Book = new ApprovalBook('desk', { keepMs: 100, maxKept: 5 }, undefined, (entry) => dropped.push(entry.id));
    const dropped: string[] = [];
    const entries = ['a', 'b', 'c'].map((id) => ask(desk, id, 0, { key: 'mail', request: 'mail' }) as Page);
    for (const entry of [...entries].reverse()) desk.leave(entry);
    const again = ['a', 'b', 'c'].map((id) => ask(desk, id, 1, { key: 'mail', request: 'mail' }));
    expect([again, dropped, desk.size]).toEqual([entries, [], 3]);
    for (const entry of entries) desk.leave(entry);
    desk.decide(entries[2] as Page, { kind: 'denied', reason: undefined }, 2);
    const last = ['c', 'b', 'a'].map((id) => ask(desk, id, 3, { key: 'mail', request: 'mail' })?.decision?.kind);
    expect(last).toEqual(['denied', undefined, undefined]);
  });

  it('finds a free id at once, however many ask under the same', () => {
    const desk = book();
    const ids = Array.from({ length: 20_000 }, (_, n) => ask(desk, desk.free('call_0', undefined), 0, { request: `mail ${n}` })?.id);
    expect(new Set(ids).size).toBe(20_000);
    expect(ids.slice(0, 3)).toEqual(['call_0', 'call_0-1', 'call_0-2']);
  });

  it('what was kept is for the same request only: ids come from models, and come again', () => {
    const desk: Book = new ApprovalBook('desk', { keepMs: 100, maxKept: 2 }, (one, other) => one === other);
    for (const decided of [true, false]) {
      const entry = ask(desk, 'call_0', 0, { keep: true, request: 'mail bob' }) as Page;
      desk.leave(entry);
      if (decided) desk.decide(entry, { kind: 'approved', input: 'mail bob' }, 1);
      const other = ask(desk, 'call_0', 2, { keep: true, request: 'wipe the disk' }) as Page;
      expect([other === entry, other.decision, other.request, desk.size, desk.remembered]).toEqual([
        false,
        undefined,
        'wipe the disk',
        1,
        0,
      ]);
      desk.remove(other);
    }
  });

  it('a decision that nobody waited for is handed out once, until it is forgotten', () => {
    const desk = book(100);
    const approved = { kind: 'approved', input: 1 } as const;
    for (const id of ['a', 'b']) {
      const entry = ask(desk, id, 0, { keep: true }) as Page;
      desk.leave(entry);
      desk.decide(entry, approved, 10);
    }
    expect(desk.remembered).toBe(2);
    expect(ask(desk, 'a', 109)?.decision).toEqual(approved);
    expect(ask(desk, 'a', 109)?.decision).toBeUndefined();
    expect(ask(desk, 'b', 110)?.decision).toBeUndefined();
    expect(desk.remembered).toBe(0);
  });

  it('keeps a bounded number of either, and tells which one it drops', () => {
    const desk = book(100, 2);
    const entries = ['a', 'b', 'c'].map((id) => ask(desk, id, 0, { keep: true }) as Page);
    expect(entries.map((entry) => desk.leave(entry)?.id)).toEqual([undefined, undefined, 'a']);
    expect([...desk.entries()].map((entry) => entry.id)).toEqual(['b', 'c']);
    const more = ['d', 'e', 'f'].map((id) => {
      const entry = ask(desk, id, 0, { keep: true }) as Page;
      desk.leave(entry);
      return desk.decide(entry, { kind: 'denied', reason: undefined }, 0)?.id;
    });
    expect(more).toEqual([undefined, undefined, 'd']);
  });

  it('expires what is due, oldest due time first', () => {
    const desk = book();
    ask(desk, 'late', 0, { dueAt: 30 });
    ask(desk, 'never', 0);
    ask(desk, 'soon', 0, { dueAt: 10 });
    ask(desk, 'next', 0, { dueAt: 20 });
    desk.leave(desk.find('next') as Page);
    expect(desk.nextDue).toBe(10);
    expect(desk.expire(9)).toBeUndefined();
    expect(desk.expire(30)?.id).toBe('soon');
    expect(desk.expire(30)?.id).toBe('late');
    expect(desk.expire(30)).toBeUndefined();
    expect([desk.nextDue, desk.size]).toEqual([Infinity, 1]);
  });

  it('whatever happens, nobody waits under a decided id and a decision reaches one asker at most', () => {
    const step = fc.record({
      do: fc.constantFrom('ask', 'ask', 'leave', 'approve', 'deny', 'expire'),
      id: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      keep: fc.boolean(),
      ms: fc.nat(40),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const desk = book(50, 2);
        const decided = new Map<string, number>();
        let now = 0;
        for (const { do: action, id, keep, ms } of steps) {
          now += ms;
          const entry = desk.find(id);
          if (action === 'ask') {
            const taken = entry?.waiter !== undefined;
            const asked = ask(desk, id, now, { keep, dueAt: now + 60 });
            expect(asked === undefined).toBe(taken);
            if (asked?.decision !== undefined) {
              expect(decided.get(id)).toBeGreaterThan(now - 50);
              decided.delete(id);
            }
          } else if (action === 'expire') while (desk.expire(now) !== undefined);
          else if (entry !== undefined && action === 'leave') {
            if (entry.waiter !== undefined) desk.leave(entry);
          } else if (entry !== undefined) {
            if (entry.waiter === undefined) decided.set(id, now);
            desk.decide(entry, action === 'approve' ? { kind: 'approved', input: 1 } : { kind: 'denied', reason: undefined }, now);
            expect(desk.find(id)).toBeUndefined();
          }
          const orphans = [...desk.entries()].filter((each) => each.waiter === undefined);
          expect(orphans.length).toBeLessThanOrEqual(2);
          expect(desk.remembered).toBeLessThanOrEqual(2);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
