import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import limits from '../../.size-limit.js';
import { dist } from '../lib/fleet.mjs';

const file = import.meta.url;
const names = limits.filter((entry) => entry.import !== '*').map((entry) => entry.name);

/** What an application that imports just this has in its bundle, rxjs and peers aside. */
async function bundle(what) {
  const { outputFiles, metafile } = await build({
    stdin: { contents: `export ${what} from './index.js';`, resolveDir: fileURLToPath(dist) },
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'neutral',
    conditions: ['default'],
    external: ['rxjs', '@anthropic-ai/sdk', 'zod'],
    metafile: true,
    write: false,
    tsconfigRaw: {},
  });
  const [output] = Object.values(metafile.outputs);
  const inputs = Object.entries(output.inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0);
  return {
    size: gzipSync(outputFiles[0].contents, { level: 9 }).length / 1000,
    others: inputs
      .map(([path]) => names.find((name) => path.endsWith(`/operators/${name}.js`)))
      .filter((name) => name && what !== `{ ${name} }`),
  };
}

const sizeOf = (what) => async () => {
  const { size, others } = await bundle(what);
  return { size, others: others.length };
};

export const contenders = Object.fromEntries(limits.map((entry) => [entry.name, sizeOf(entry.import)]));

/** The goals; what `npm run size` allows is what there is, so that it does not grow unseen. */
const ONE = 2.5;
const ALL = 9;

export const section = {
  goal: 'Goal 8: what a bundle grows by, minified and gzipped, rxjs and peers aside',
  groups: [
    {
      title: 'esbuild, browser build',
      file,
      rounds: 1,
      contenders: limits.map((entry) => entry.name),
      rows: [
        ...limits.map((entry) => ({
          what: entry.name,
          figure: (r) => r[entry.name].size,
          unit: 'kB',
          atMost: entry.import === '*' ? ALL : ONE,
        })),
        {
          what: 'other operators that one brings with it',
          figure: (r) => Math.max(...names.map((name) => r[name].others)),
          unit: 'files',
          atMost: 0,
        },
      ],
    },
  ],
};
