import { brandError, hasBrand } from '../core/errors.js';

const SHOWN = 20;

function named(ids: readonly string[]): string {
  const shown = ids.slice(0, SHOWN).map((id) => JSON.stringify(id.slice(0, 100)));
  return `${shown.join(', ')}${ids.length > SHOWN ? ` and ${ids.length - SHOWN} more` : ''}`;
}

/** A call that this one needs has no result. This one did not run. `cause` is what the first of them failed with. */
export class DependencyFailedError extends Error {
  override readonly name = 'DependencyFailedError';
  readonly call: string;
  /** The call that it needs, by the name it needs it by. */
  readonly dependency: string;
  /** Where it began: that call, or one that it needed itself. */
  readonly root: string;

  constructor(call: string, dependency: string, root: string, cause: unknown) {
    const because = root === dependency ? '' : ` because ${named([root])} has none`;
    super(`The call ${named([call])} needs ${named([dependency])}, which has no result${because}`, { cause });
    this.call = call;
    this.dependency = dependency;
    this.root = root;
    brandError(this, 'DependencyFailedError');
  }
}

/** Whether `error` is a DependencyFailedError of any copy of this package. */
export function isDependencyFailedError(error: unknown): error is DependencyFailedError {
  return hasBrand(error, 'DependencyFailedError');
}

/** Calls need each other's results. None of them ran. */
export class DependencyCycleError extends Error {
  override readonly name = 'DependencyCycleError';
  readonly call: string;
  /** Each needs the next; the last is the first again. */
  readonly cycle: readonly string[];

  constructor(call: string, cycle: readonly string[]) {
    const shown = cycle.length > SHOWN ? [...cycle.slice(0, SHOWN - 1), '…', ...cycle.slice(-1)] : cycle;
    super(`The call ${named([call])} needs its own result: ${shown.map((id) => id.slice(0, 100)).join(' -> ')}.`);
    this.call = call;
    this.cycle = cycle;
    brandError(this, 'DependencyCycleError');
  }
}

/** Whether `error` is a DependencyCycleError of any copy of this package. */
export function isDependencyCycleError(error: unknown): error is DependencyCycleError {
  return hasBrand(error, 'DependencyCycleError');
}

/** A call refers to one that never came, or to a part that an output does not have. It did not run. */
export class UnknownReferenceError extends Error {
  override readonly name = 'UnknownReferenceError';
  readonly call: string;
  /** As it was written. */
  readonly reference: string;
  /** What is not there. */
  readonly missing: 'call' | 'part';
  /** What is there instead: the calls of the plan, or the fields of the output. */
  readonly known: readonly string[];

  constructor(call: string, reference: string, missing: 'call' | 'part', known: readonly string[]) {
    const written = JSON.stringify(reference.slice(0, 200));
    const what =
      missing === 'call'
        ? `no call of the plan has that id${list('the calls are', known)}`
        : `the output has no such part${list('there is', known)}`;
    const literally = reference.startsWith('$') ? ` To say ${written} itself, write ${JSON.stringify(`$${reference.slice(0, 200)}`)}.` : '';
    super(`The call ${named([call])} refers to ${written}, but ${what}.${literally}`);
    this.call = call;
    this.reference = reference;
    this.missing = missing;
    this.known = known;
    brandError(this, 'UnknownReferenceError');
  }
}

function list(words: string, known: readonly string[]): string {
  return known.length === 0 ? '' : `; ${words} ${named(known)}`;
}

/** Whether `error` is an UnknownReferenceError of any copy of this package. */
export function isUnknownReferenceError(error: unknown): error is UnknownReferenceError {
  return hasBrand(error, 'UnknownReferenceError');
}

/** A plan has an id twice. The call that came first is not touched, this one did not run. */
export class DuplicateCallError extends Error {
  override readonly name = 'DuplicateCallError';
  readonly call: string;

  constructor(call: string) {
    super(`The plan already has a call ${named([call])}. Each needs an id of its own.`);
    this.call = call;
    brandError(this, 'DuplicateCallError');
  }
}

/** Whether `error` is a DuplicateCallError of any copy of this package. */
export function isDuplicateCallError(error: unknown): error is DuplicateCallError {
  return hasBrand(error, 'DuplicateCallError');
}

/** What a plan gave is no call, or too much of one. It did not run. */
export class InvalidCallError extends Error {
  override readonly name = 'InvalidCallError';
  /** Empty if that is what is wrong with it. */
  readonly call: string;

  constructor(call: string, problem: string) {
    super(`${call === '' ? 'A call' : `The call ${named([call])}`} of the plan cannot be made: ${problem}.`);
    this.call = call;
    brandError(this, 'InvalidCallError');
  }
}

/** Whether `error` is an InvalidCallError of any copy of this package. */
export function isInvalidCallError(error: unknown): error is InvalidCallError {
  return hasBrand(error, 'InvalidCallError');
}
