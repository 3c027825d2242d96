#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { harmless } from './terminalText.js';
import { trips } from './trips.js';
import { TRIPS_HELP, tripsArguments, UsageError } from './tripsArguments.js';

const HELP = `Usage: rxfleet <command> [options]

  trips [file]     prints a trip log; rxfleet trips --help tells more
  -h, --help       prints this
  -v, --version    prints the version
`;

const { stdout, stderr } = process;

async function main([command, ...args]: readonly string[]): Promise<number> {
  if (command === 'trips') return runTrips(args);
  if (command === '--version' || command === '-v') return print(`${version()}\n`);
  if (command === '--help' || command === '-h' || command === 'help') return print(HELP);
  stderr.write(command === undefined ? HELP : `There is no command ${JSON.stringify(command)}.\n\n${HELP}`);
  return 2;
}

async function runTrips(args: readonly string[]): Promise<number> {
  const wanted = tripsArguments(args, Date.now());
  if (wanted.help) return print(TRIPS_HELP);
  const stop = new AbortController();
  if (wanted.follow) process.once('SIGINT', () => stop.abort());
  return trips(wanted, { out: stdout, err: stderr }, stop.signal);
}

function print(text: string): number {
  stdout.write(text);
  return 0;
}

function version(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { readonly version: string };
  return version;
}

/** Whoever read the output has had enough. */
for (const output of [stdout, stderr]) output.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

main(process.argv.slice(2)).then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    if (!(error instanceof UsageError)) throw error;
    stderr.write(`${harmless(error.message)}\nrxfleet trips --help lists what it takes.\n`);
    process.exitCode = 2;
  },
);
