import { defer, EMPTY, merge, type Observable } from 'rxjs';
import { rootReason } from '../core/errors.js';
import type { ScopeNode } from '../core/node.js';
import type { ScopeContext } from '../core/types.js';
import type { ApprovalGate, EditableRequest } from '../gates/approvalGate.js';
import type { ApprovalAsk } from '../gates/approvalRequest.js';
import type { KeyedLock, LockKeys } from '../gates/keyedLock.js';
import { approved } from '../operators/awaitApproval.js';
import { failWithin } from '../operators/failWithin.js';
import type { Guard } from '../operators/guard.js';
import { serializeBy } from '../operators/serializeBy.js';
import { toJson } from './json.js';
import { parse } from './parse.js';
import { ToolInputError } from './errors.js';
import type { ToolEffect } from './tool.js';
import type { ToolDefinition } from './toolDefinition.js';
import type { Chat } from './versions.js';
import { problemsOf } from './words.js';

/** A call that asks its guard to pass. */
export interface ToolRequest {
  /** The id of the `tool_use` block; a random one for a call by hand. */
  readonly id: string;
  readonly name: string;
  /** The parsed input. */
  readonly input: unknown;
  readonly effect: ToolEffect;
}

/** What stands between a call of a tool and its work. */
export interface ToolRules {
  /** Gates that the call passes once its input is fine. Its own time limit begins when it has passed them. */
  readonly guard?: Guard<ToolRequest> | undefined;
  /** Milliseconds that the call may take, where the tool has no `timeoutMs` of its own. */
  readonly timeoutMs?: number | undefined;
  /** Where people are asked about calls of tools with `needsApproval`. */
  readonly approvals?: ApprovalGate | undefined;
  /** Orders calls of tools with `resources`. */
  readonly lock?: KeyedLock | undefined;
}

/** What one call is, for its gates. */
export interface GatedCall {
  readonly id: string;
  /** The input as the model wrote it, and as the tool is to be given it. */
  readonly said: unknown;
  readonly input: unknown;
  /** The conversation; undefined if the call is in none. */
  readonly chat: Chat | undefined;
  readonly scope: ScopeContext;
  readonly graceMs: number;
  /** A person has put another input in the place of the model's. */
  edited(input: unknown, instead: unknown): void;
  /** A person is about to be asked. */
  asking(request: string): void;
  /** Others hold what it reads or writes. */
  waiting(keys: readonly string[]): void;
}

/**
 * The gates in front of one call, from the outside in: a person, the guard, the lock of its resources, its time limit. Undefined if there are
 * none.
 */
export function behindGates(
  definition: ToolDefinition,
  rules: ToolRules,
  call: GatedCall,
  work: Observable<unknown>,
): Observable<unknown> | undefined {
  const { guard, lock, approvals, timeoutMs = Infinity } = rules;
  const asks = definition.needsApproval(call.input);
  if (guard === undefined && !asks && (lock === undefined || definition.resources === undefined)) return undefined;
  const start = (input: unknown): Observable<unknown> => {
    const { name, effect } = definition;
    const keys = lock && definition.resources?.(input);
    const limit = definition.timeoutMs ?? timeoutMs;
    let gated = limit === Infinity ? work : work.pipe(failWithin(limit, { graceMs: call.graceMs }));
    if (lock !== undefined && keys !== undefined) gated = inTurn(gated, lock, keys, call);
    return guard === undefined ? gated : gated.pipe(guard({ id: call.id, name, effect, input }, call.scope));
  };
  if (!asks) return start(call.input);
  if (approvals === undefined)
    throw new TypeError(`The tool "${definition.name}" needs an approval, and there is nobody to ask: give \`approvals\`.`);
  let decided = false;
  let request: string | undefined;
  const onAsked = (id: string): void => void (request = id);
  const asked = approved<unknown, unknown>(approvals, { ...requestOf(definition, call), onAsked } as EditableRequest<unknown>, (answer) => {
    decided = true;
    if (!(answer instanceof Edited)) return start(call.input);
    call.edited(answer.input, answer.instead);
    return start(answer.input);
  });
  const tell = defer(() => {
    if (!decided && request !== undefined) call.asking(request);
    return EMPTY;
  });
  return merge(asked, tell);
}

/** Waits until nobody holds what the call needs, and tells when it has to. */
function inTurn(work: Observable<unknown>, lock: KeyedLock, keys: LockKeys, call: GatedCall): Observable<unknown> {
  return defer(() => {
    let granted = false;
    const begun = defer(() => {
      granted = true;
      return work;
    });
    const waits = defer(() => {
      if (!granted) call.waiting([...(keys.writes ?? []), ...(keys.reads ?? [])]);
      return EMPTY;
    });
    return merge(begun.pipe(serializeBy(lock, keys)), waits);
  });
}

/** An input that a person has changed and the tool's schema has taken. */
class Edited {
  constructor(
    readonly input: unknown,
    readonly instead: unknown,
  ) {}
}

/** A request that was left, or its decision, is for the same call of the same conversation, whatever its id is then. */
function requestOf(definition: ToolDefinition, { id, said, chat, scope }: GatedCall): EditableRequest<unknown> & ApprovalAsk {
  const { name: title, description: payload } = definition;
  const keep = chat !== undefined && toJson([...chat.trail, title, said]);
  const common = { id, idTaken: 'another', title, payload, input: said, keep, owner: chat?.owner } as const;
  return { ...common, validate: edits(definition), isOver: () => wasAnswered(scope) };
}

/** What a request keeps: it may be kept for long, and holds on to the tool alone. */
function edits({ name, input }: ToolDefinition): (edited: unknown) => Edited {
  return (edited) => {
    const parsed = parse(input, edited);
    if (parsed instanceof Promise) throw new TypeError(`The input of "${name}" is checked asynchronously, so it cannot be edited.`);
    if (!parsed.success) throw new ToolInputError(name, problemsOf(parsed.error.issues), { cause: parsed.error });
    return new Edited(parsed.data, edited);
  };
}

/** The model has been told, or will never hear, that the call did not run: should it want it still, it asks anew. */
function wasAnswered(scope: ScopeContext): boolean {
  const reason = (scope as unknown as ScopeNode).cancellation?.reason;
  const kind = reason && rootReason(reason).kind;
  return kind === 'deadline' || kind === 'source-error' || kind === 'sibling-failed';
}

/** Keys as a tool declares them, checked where they are used. */
export type ResourcesOf = (input: unknown) => LockKeys | undefined;
