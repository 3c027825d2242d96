import { NEVER, of } from 'rxjs';
import { scoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { DepthGate } from '../../src/gates/depthGate.js';
import { depthLimit } from '../../src/operators/depthLimit.js';
import { later, virtual } from '../support/virtual.js';

describe('DepthGate', () => {
  it.each([
    [{ maxDepth: -1 }, RangeError, 'DepthGate: maxDepth must be an integer of at least 0, or Infinity, got -1.'],
    [{ maxFanOut: Number.NaN }, RangeError, 'DepthGate: maxFanOut must be an integer of at least 0, or Infinity, got NaN.'],
    [{ maxLive: 1.5 }, RangeError, 'DepthGate: maxLive must be an integer of at least 0, or Infinity, got 1.5.'],
    [{ maxTotal: '5' }, TypeError, 'DepthGate: maxTotal must be an integer of at least 0, or Infinity, got "5".'],
    [{ cycles: 'forbid' }, RangeError, 'DepthGate: cycles must be one of "allow", "refuse", got "forbid".'],
    [{ name: 5 }, TypeError, 'DepthGate: name must be a string that is not empty, got 5.'],
    [null, TypeError, 'DepthGate: options must be an object, got null.'],
  ])('refuses bad options by name: %j #2.6 #47', (options, kind, message) => {
    expect(() => new DepthGate(options as never)).toThrow(new kind(message));
  });

  it('tells what happens, with paths, and shows live and total', () =>
    virtual(({ flush }) => {
      const gate = new DepthGate({ name: 'tree', maxLive: 1 });
      const events: string[] = [];
      const states: string[] = [];
      gate.state$.subscribe(({ live, total }) => states.push(`${live}/${total}`));
      gate.events$.subscribe((event) => events.push(`${event.at} ${event.type} ${'path' in event ? event.path.join('>') : ''}`));
      scoped(() => later(2, 1).pipe(depthLimit(gate)), { label: 'a' }).subscribe();
      scoped(() => later(2, 1).pipe(depthLimit(gate)), { label: 'b' }).subscribe({ error: () => undefined });
      flush();
      expect(events).toEqual(['0 admitted a', '0 refused b', '2 settled a']);
      expect(states).toEqual(['0/0', '1/1', '1/1', '0/1']);
      expect(JSON.parse(JSON.stringify(gate.snapshot()))).toEqual({ name: 'tree', live: 0, total: 1 });
    }));

  it('disposed, refuses newcomers and leaves what runs alone unless told to stop it', () =>
    virtual(({ watch, lines, at, flush }) => {
      const gate = new DepthGate({ name: 'tree' });
      watch(NEVER.pipe(depthLimit(gate)), 'one');
      at(1, () => (gate.dispose(), gate[Symbol.dispose]()));
      at(2, () => watch(of(1).pipe(depthLimit(gate)), 'two'));
      at(3, () => gate.dispose({ cancelInFlight: true }));
      flush();
      expect(lines).toEqual(['2 two error Gate "tree" has been disposed.', '3 one error Gate "tree" has been disposed.']);
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 1 });
    }));

  it('an observer that calls back in finds the call counted already #D13', () => {
    const gate = new DepthGate({ maxLive: 1 });
    const errors: string[] = [];
    let runs = 0;
    gate.events$.subscribe(({ type }) => {
      if (type === 'admitted')
        of(1)
          .pipe(depthLimit(gate))
          .subscribe({ next: () => runs++, error: (error: Error) => errors.push(error.message) });
    });
    of(1)
      .pipe(depthLimit(gate))
      .subscribe(() => runs++);
    expect([runs, errors]).toEqual([1, ['Depth limit "depth" refuses the call at the root: 1 calls run in the tree already.']]);
    expect(gate.snapshot()).toMatchObject({ live: 0, total: 1 });
  });
});
