import { ignoreRejection, isPromiseLike } from '../core/lease.js';
import type { Entry } from './approvalBook.js';

/** What is asked of a person. */
export interface ApprovalRequest {
  /** Names the request, such as the id of the tool call. Default: the gate's name and a number. */
  readonly id?: string | undefined;
  readonly title?: string | undefined;
  /** Whatever helps to decide. */
  readonly payload?: unknown;
  /** What the call is about to be made with. */
  readonly input?: unknown;
  /** Milliseconds in which somebody must decide. Default: the gate's. */
  readonly expiresMs?: number | undefined;
  /**
   * The request, or the decision, waits for the same to be asked again when whoever asked has left: under the same `id` where
   * it is true, or under this key. It is the same only if its title and its input are. Default false: the request is withdrawn.
   */
  readonly keep?: boolean | string | undefined;
}

/** A request whose input may be edited by whoever decides. */
export interface EditableRequest<I> extends ApprovalRequest {
  readonly input: I;
  /** Checks an edited input and returns it; what it throws is told to whoever edited. Without it edits are refused. */
  readonly validate?: ((edited: unknown) => I) | undefined;
}

/** A request as a person sees it. */
export interface PendingApproval {
  readonly id: string;
  readonly title?: string;
  readonly payload?: unknown;
  readonly input?: unknown;
  /** Labels from the root to the call. */
  readonly path: readonly string[];
  readonly ageMs: number;
  /** What is left of the time to decide; absent if there is no end to it. */
  readonly expiresInMs?: number;
  /** Whether the input may be edited. */
  readonly editable: boolean;
  /** Whether whoever asked has left and the request waits to be asked again. */
  readonly left: boolean;
}

/** What the gate is asked. */
export type ApprovalAsk = ApprovalRequest & {
  readonly validate?: ((edited: unknown) => unknown) | undefined;
  /** Whether nobody will ask for it again, so that it is not kept: looked at when whoever asked has left. */
  readonly isOver?: (() => boolean) | undefined;
  /** What its key belongs to: it is the same only of the same. */
  readonly owner?: object | undefined;
  /** Ids come from models: where somebody else's request has this one, it goes by another. */
  readonly idTaken?: 'another' | undefined;
  /** Is told the id under which somebody is asked. */
  readonly onAsked?: ((id: string) => void) | undefined;
};
/** What it keeps of it. */
export type StandingRequest = Omit<ApprovalAsk, 'isOver' | 'onAsked' | 'owner'> & { readonly path: readonly string[] };
type StandingPage = Pick<Entry<StandingRequest, unknown>, 'id' | 'request' | 'waiter' | 'askedAt' | 'dueAt'>;

/** Hands whatever is wrong with a request to `bad`. */
export function checkRequest(request: unknown, bad: (what: string, range: string, got: unknown) => never): void {
  if (typeof request !== 'object' || request === null) bad('request', 'an object', request);
  const { id, title, expiresMs, keep, validate } = request as { readonly [K in keyof ApprovalAsk]: unknown };
  if (id !== undefined && (typeof id !== 'string' || id === '')) bad('id', 'a string that is not empty', id);
  if (title !== undefined && typeof title !== 'string') bad('title', 'a string', title);
  if (expiresMs !== undefined && !(typeof expiresMs === 'number' && expiresMs >= 0))
    bad('expiresMs', 'a number of milliseconds, 0 or more, or Infinity', expiresMs);
  if (keep !== undefined && typeof keep !== 'boolean' && (typeof keep !== 'string' || keep === ''))
    bad('keep', 'true, false or a key', keep);
  if (keep === true && id === undefined) bad('id', 'given where `keep` is true', id);
  if (validate !== undefined && typeof validate !== 'function') bad('validate', 'a function', validate);
}

/** Whether two requests are about the same call: ids and keys may come from a model, and come again. */
export function sameRequest(one: ApprovalRequest, other: ApprovalRequest): boolean {
  return one.title === other.title && (one.input === other.input || json(one.input) === json(other.input));
}

/** Undefined for what cannot be written: it is the same as nothing but itself. */
function json(value: unknown): unknown {
  try {
    return JSON.stringify(value) ?? {};
  } catch {
    return {};
  }
}

/** An edited input as the request's own check returns it. */
export function validated(who: string, { validate }: ApprovalAsk, edited: unknown): unknown {
  if (validate === undefined) throw new TypeError(`${who}: this request takes no edited input, for it has no \`validate\`.`);
  const input = validate(edited);
  if (!isPromiseLike(input)) return input;
  ignoreRejection(input);
  throw new TypeError(`${who}: \`validate\` must return the input itself, not a promise of it.`);
}

export function pictureOf(page: StandingPage, now: number): PendingApproval {
  const { id, request, waiter, askedAt, dueAt } = page;
  const { title, payload, input, path, validate } = request;
  return {
    id,
    ...(title !== undefined && { title }),
    ...(payload !== undefined && { payload }),
    ...(input !== undefined && { input }),
    path,
    ageMs: now - askedAt,
    ...(dueAt < Infinity && { expiresInMs: Math.max(0, dueAt - now) }),
    editable: validate !== undefined,
    left: waiter === undefined,
  };
}
