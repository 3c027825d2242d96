import { Observable } from 'rxjs';

const CTRL_C = '\u0003';

/**
 * Single keys of a terminal. As long as somebody listens, the terminal hands every key over as it is, Ctrl-C too, which stays what it always is.
 * What comes in one piece is no single key: an arrow, or something pasted, is not meant as an answer.
 */
export const keys = (stdin: NodeJS.ReadStream): Observable<string> =>
  new Observable((out) => {
    const onData = (text: string): void => {
      if (text.includes(CTRL_C)) process.kill(process.pid, 'SIGINT');
      else if (text.length === 1) out.next(text);
    };
    stdin.setEncoding('utf8').on('data', onData);
    stdin.setRawMode(true);
    stdin.resume();
    return () => {
      stdin.off('data', onData).pause();
      stdin.setRawMode(false);
    };
  });
