import { fanOutScoped } from '../dist/index.js';
import { from, mergeMap } from 'rxjs';
const N = 100000;
const kind = process.argv[2];
const items = Array.from({ length: N }, (_, i) => i);
const rs = new Array(N);
let at = 0;
const task = () =>
  new Promise((r) => {
    rs[at++] = r;
  });
const taskS = (s) =>
  new Promise((r) => {
    rs[at++] = r;
    s.addEventListener('abort', () => {});
  });
gc();
const m0 = process.memoryUsage().heapUsed;
let keep;
if (kind === 'ours')
  keep = from(items)
    .pipe(fanOutScoped((x, i, ctx) => ctx.call(() => task()), { concurrency: Infinity }))
    .subscribe();
if (kind === 'oursSig')
  keep = from(items)
    .pipe(fanOutScoped((x, i, ctx) => ctx.call((s) => taskS(s)), { concurrency: Infinity }))
    .subscribe();
if (kind === 'merge')
  keep = from(items)
    .pipe(mergeMap(() => task()))
    .subscribe();
if (kind === 'bare') {
  keep = items.map(() => task());
}
if (kind === 'ctl') {
  keep = items.map(() => {
    const ac = new AbortController();
    return [ac, taskS(ac.signal)];
  });
}
gc();
const m1 = process.memoryUsage().heapUsed;
console.log(kind, ((m1 - m0) / N).toFixed(0), 'B per call in flight');
globalThis.keep = keep;
