import { distinctUntilChanged, EMPTY, map, switchMap, type Observable, type Subscription } from 'rxjs';
import { ApprovalGate, type GateEvent, type PendingApproval } from 'rxfleet';

/** What became of the questions; `asked` is the sum of the others once nobody waits any more. */
export interface ApprovalTally {
  asked: number;
  approved: number;
  denied: number;
  expired: number;
  /** Whoever asked was cancelled. */
  withdrawn: number;
}

/** Nobody wants a question to hold up everything for ever. */
const EXPIRES_MS = 10_000;
/** A key that comes sooner was meant for what was on the screen before. */
const TOO_SOON_MS = 250;

/** Where agents ask before they do what cannot be undone. One question is on the screen at a time; without a terminal the answer is yes. */
export class Approvals {
  readonly gate: ApprovalGate = new ApprovalGate({ name: 'approval', expiresMs: EXPIRES_MS });
  readonly tally: ApprovalTally = { asked: 0, approved: 0, denied: 0, expired: 0, withdrawn: 0 };
  /** How many were approved without a question. */
  automatic = 0;
  /** Is told of every question to which nobody said yes. */
  onAutomatic: (question: PendingApproval) => void = () => {};
  private readonly open = new Set<string>();
  private yesToAll: boolean;
  private front: { readonly id: string; readonly since: number } | undefined = undefined;
  private readonly listening: Subscription;

  constructor(
    /** The keys of a person; undefined if there is nobody to ask. */
    keys$: Observable<string> | undefined,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.yesToAll = keys$ === undefined;
    this.gate.events$.subscribe((event) => this.hear(event));
    const asking$ = this.gate.state$.pipe(
      map(({ pending }) => pending.some(({ left }) => !left)),
      distinctUntilChanged(),
    );
    this.listening = asking$.pipe(switchMap((asking) => (asking && keys$ ? keys$ : EMPTY))).subscribe((key) => this.press(key));
  }

  /** What waits for an answer, in the order in which it was asked: the first is the one on the screen. */
  get questions(): PendingApproval[] {
    return this.gate.pending().filter(({ left }) => !left);
  }

  /** Nothing is asked any more, and the terminal is as it was. */
  close(): void {
    this.listening.unsubscribe();
    this.gate.dispose();
  }

  /** Answers the question on the screen: yes, no, or yes to all from now on. */
  press(key: string): void {
    const { front } = this;
    if (front === undefined || this.now() - front.since < TOO_SOON_MS) return;
    if (key === 'n' || key === 'N') this.gate.deny(front.id, 'the user said no');
    else if (key === 'y' || key === 'Y') this.gate.approve(front.id);
    else if (key === 'a') {
      this.yesToAll = true;
      for (const question of this.questions) this.approveUnasked(question);
    }
  }

  private hear(event: GateEvent): void {
    if (event.type === 'approval') this.count(event.id, event.outcome);
    // Such an event does not say which.
    if (event.type === 'withdrawn') for (const { id, left } of this.gate.pending()) if (left) this.count(id, 'withdrawn');
    const [first] = this.questions;
    if (first?.id !== this.front?.id) this.front = first && { id: first.id, since: this.now() };
  }

  private count(id: string, outcome: keyof ApprovalTally): void {
    if (outcome === 'asked') {
      this.tally.asked++;
      this.open.add(id);
      const question = this.questions.find((each) => each.id === id);
      if (this.yesToAll && question !== undefined) this.approveUnasked(question);
    } else if (this.open.delete(id)) this.tally[outcome]++;
  }

  private approveUnasked(question: PendingApproval): void {
    this.automatic++;
    this.onAutomatic(question);
    this.gate.approve(question.id);
  }
}
