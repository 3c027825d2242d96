import { startMessagesServer } from 'rxfleet/testing';
import { expect, it } from 'vitest';
import { Run, script } from './instantsRun.js';
it('x', async () => {
  const server = await startMessagesServer({ script, logSize: 50 });
  const run = new Run('r', server, process.env['STOP'] as never, process.env['AT'], 6);
  (run as any).onEvent = function (e: any) { console.log(((this.counts.get('event') ?? 0) as number) + 1, e.type === 'model' ? e.event.type : e.type === 'tool' ? `${e.event.type} ${e.event.id}` : e.type); (Run.prototype as any).onEvent.call(this, e); };
  await run.run();
  console.log(run.complaints, run.outcome);
  await server.close();
}, 30000);
