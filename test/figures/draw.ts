// Draws the pictures of docs/guide/limits.md and prints the figures that it quotes: `npm run figures`.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { facts } from './facts.js';
import { figures } from './figures.js';
import { pictures } from './pictures.js';

const now = figures();
for (const [name, svg] of Object.entries(pictures(now))) writeFileSync(join(import.meta.dirname, '../../docs/img', name), svg);
for (const fact of facts(now)) console.log(fact);
