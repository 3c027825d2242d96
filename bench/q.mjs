import { fanOutScoped } from '../dist/index.js';
import { from, mergeMap } from 'rxjs';
const which = process.argv[2],
  c = Number(process.argv[3] ?? 10),
  N = Number(process.argv[4] ?? 100000),
  kind = process.argv[5] ?? 'plain';
const items = Array.from({ length: N }, (_, i) => i);
const task = (x) => new Promise((r) => setImmediate(r, x));
const contenders = {
  pool: () =>
    new Promise((resolve) => {
      let i = 0,
        active = 0,
        done = 0;
      const next = () => {
        while (active < c && i < N) {
          active++;
          task(items[i++]).then(() => {
            active--;
            if (++done === N) resolve();
            else next();
          });
        }
      };
      next();
    }),
  workers: async () => {
    let i = 0;
    const out = new Array(N);
    const worker = async () => {
      while (i < N) {
        const j = i++;
        out[j] = await task(items[j], j);
      }
    };
    await Promise.all(Array.from({ length: Math.min(c, N) }, worker));
    return out;
  },
  poolCtl: () =>
    new Promise((resolve) => {
      let i = 0,
        active = 0,
        done = 0;
      const live = new Set();
      const next = () => {
        while (active < c && i < N) {
          active++;
          const ac = new AbortController();
          live.add(ac);
          const s = ac.signal;
          task(items[i++], s).then(() => {
            live.delete(ac);
            active--;
            if (++done === N) resolve();
            else next();
          });
        }
      };
      next();
    }),
  ours: () =>
    new Promise((resolve, reject) =>
      from(items)
        .pipe(fanOutScoped((x, i, ctx) => ctx.call(() => task(x)), { concurrency: c }))
        .subscribe({ error: reject, complete: resolve }),
    ),
  oursSig: () =>
    new Promise((resolve, reject) =>
      from(items)
        .pipe(fanOutScoped((x, i, ctx) => ctx.call((s) => task(x, s)), { concurrency: c }))
        .subscribe({ error: reject, complete: resolve }),
    ),
  oursSigUse: () =>
    new Promise((resolve, reject) =>
      from(items)
        .pipe(fanOutScoped((x, i, ctx) => ctx.call((s) => task(x, s)), { concurrency: c }))
        .subscribe({ error: reject, complete: resolve }),
    ),
  mergeMap: () =>
    new Promise((resolve, reject) =>
      from(items)
        .pipe(mergeMap((x) => task(x), c))
        .subscribe({ error: reject, complete: resolve }),
    ),
};
const run = contenders[which];
const t = [];
for (let k = 0; k < 7; k++) {
  const s = process.hrtime.bigint();
  await run();
  t.push(Number(process.hrtime.bigint() - s) / N);
}
console.log(which, 'c', c, t.map((x) => x.toFixed(0)).join(' '), 'ns/call');
