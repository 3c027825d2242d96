import type { MonoTypeOperatorFunction, Observable, ObservableInput } from 'rxjs';
import { checkFunction } from '../core/options.js';
import type { ApprovalGate } from '../gates/approvalGate.js';
import { checkRequest, type ApprovalRequest, type EditableRequest } from '../gates/approvalRequest.js';
import { refuse } from '../gates/checks.js';
import type { Gate } from '../gates/gate.js';
import { admitted, gated } from './admit.js';

function checked<R extends ApprovalRequest>(who: string, request: R | (() => R)): void {
  if (typeof request !== 'function') checkRequest(request, (what, range, got) => refuse(TypeError, who, what, range, got));
}

/** The call has its input already: an edit would be lost. */
function uneditable(request: ApprovalRequest): ApprovalRequest {
  return typeof request === 'object' && request !== null ? ({ ...request, validate: undefined } as ApprovalRequest) : request;
}

/**
 * Holds a call until a person has decided.
 *
 * ```
 * source             --a--|               source
 *           awaitApproval                           awaitApproval
 * decision      approved                  decision  ?               unsubscribed: the request is withdrawn
 * output    ......--a--|                  output    ....
 * ```
 *
 * Use it in front of what cannot be undone. Any number of requests wait side by side, each under its own id, and are decided
 * in any order. The call is made as it is; where whoever decides may edit its input, use `approved`.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { ApprovalGate, awaitApproval } from 'rxfleet';
 *
 * const desk = new ApprovalGate();
 * of('deleted')
 *   .pipe(awaitApproval(desk, { id: 'toolu_7', title: 'Delete the branch?' }))
 *   .subscribe({ error: (error) => console.log(error.message) });
 * desk.deny('toolu_7', 'not before the release');
 * ```
 *
 * @param gate - where requests wait
 * @param request - `id` (default: numbered by the gate), `title`, `payload`, `input`, `expiresMs` (default: the gate's) and
 * `keep`; or a function that gives them, called once for each attempt
 * @returns an operator that errors with ApprovalDeniedError, with ApprovalExpiredError, with BadAskError if somebody waits
 * under that id already, or with ResourceDisposedError; the source is not subscribed then. Unsubscribing withdraws the
 * request, or leaves it for whoever asks again if it is to be kept, or stops the call
 * @see approved for calls whose input may be edited
 */
export function awaitApproval<T>(gate: ApprovalGate, request: ApprovalRequest | (() => ApprovalRequest) = {}): MonoTypeOperatorFunction<T> {
  checked('awaitApproval', request);
  return gated('awaitApproval', gate, typeof request === 'function' ? () => uneditable(request()) : uneditable(request));
}

/**
 * Makes a call once a person has approved it, with the input that was approved.
 *
 * ```
 * decision      approved, edited          decision      denied
 * run                 --a--|              run
 * output    ..........--a--|              output    ....#
 * ```
 *
 * Use it where whoever decides may correct what is about to be done.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { ApprovalGate, approved } from 'rxfleet';
 *
 * const desk = new ApprovalGate();
 * const mail = { id: 'toolu_8', title: 'Send?', input: { to: 'all' }, validate: (edited: unknown) => edited as { to: string } };
 * approved(desk, mail, ({ to }) => of(`sent to ${to}`)).subscribe((word) => console.log(word));
 * desk.approve('toolu_8', { input: { to: 'me' } });
 * ```
 *
 * @param gate - where requests wait
 * @param request - as for `awaitApproval`, with the `input`, and `validate`, which checks an edited one and returns it; without
 * `validate` edits are refused. Or a function that gives them, called once for each attempt
 * @param run - starts the call with the approved input, any ObservableInput
 * @returns a cold Observable that ends as with `awaitApproval`
 * @see awaitApproval for calls that are made as they are
 */
export function approved<I, T>(
  gate: ApprovalGate,
  request: EditableRequest<I> | (() => EditableRequest<I>),
  run: (input: I) => ObservableInput<T>,
): Observable<T> {
  if (typeof (gate as Partial<ApprovalGate> | null | undefined)?.enter !== 'function')
    refuse(TypeError, 'approved', 'gate', 'a gate', gate);
  checked('approved', request);
  checkFunction('approved', 'run', run);
  return admitted(gate as Gate<EditableRequest<I>, I>, request, run);
}
