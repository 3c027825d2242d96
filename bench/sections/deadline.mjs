import { from, map, range, timeout } from 'rxjs';
import { collected } from '../lib/contenders.mjs';
import { fanOutScoped, takeWithin } from '../lib/fleet.mjs';
import { nsPer, numbers } from '../lib/steady.mjs';

const file = import.meta.url;
const turn = (x) => new Promise((resolve) => setImmediate(resolve, x));

const onEach = (shape) => {
  const project = (x, _, ctx) => shape(ctx.call(() => turn(x)));
  return ({ c, size }) => {
    const items = numbers(size);
    return nsPer(size, () => collected(from(items).pipe(fanOutScoped(project, { concurrency: c ?? Infinity }))));
  };
};

const onAll =
  (operator) =>
  ({ size }) =>
    nsPer(size, () => new Promise((resolve) => operator(range(0, size)).subscribe({ complete: resolve })));

export const contenders = {
  without: onEach((call) => call),
  takeWithin: onEach((call) => call.pipe(takeWithin(60_000))),
  'rxjs timeout': onEach((call) => call.pipe(timeout(60_000))),
  'rxjs map': onEach((call) => call.pipe(map((x) => x))),

  'outer without': onAll((source) => source),
  'outer takeWithin': onAll((source) => source.pipe(takeWithin(60_000))),
  'outer map': onAll((source) => source.pipe(map((x) => x))),
};

const rows = [
  { what: 'added by takeWithin on each call', figure: (r) => r.takeWithin - r.without, unit: 'ns', atMost: 150 },
  { what: 'added by rxjs timeout', figure: (r) => r['rxjs timeout'] - r.without, unit: 'ns' },
  { what: 'added by map(x => x), the least an operator costs there', figure: (r) => r['rxjs map'] - r.without, unit: 'ns' },
];

const each = { file, contenders: ['without', 'takeWithin', 'rxjs timeout', 'rxjs map'], unit: 'ns a call', rows };

export const section = {
  goal: 'Goal 7: what takeWithin costs',
  groups: [
    { title: 'on each call of a fan-out, c = 10', params: { c: 10, size: 50_000 }, ...each },
    { title: 'on each call of a fan-out, unbounded', params: { size: 50_000 }, rounds: 5, ...each },
    {
      title: 'on the outer stream, for each of 1,000,000 values',
      file,
      params: { size: 1_000_000 },
      rounds: 3,
      contenders: ['outer without', 'outer takeWithin', 'outer map'],
      unit: 'ns a value',
      rows: [
        { what: 'added by takeWithin', figure: (r) => r['outer takeWithin'] - r['outer without'], unit: 'ns' },
        { what: 'added by map(x => x)', figure: (r) => r['outer map'] - r['outer without'], unit: 'ns' },
      ],
    },
  ],
};
