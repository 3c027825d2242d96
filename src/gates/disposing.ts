/** What `using` takes, where the platform's types know of it. */
export type SelfDisposing = typeof Symbol extends { readonly dispose: infer D extends symbol } ? { readonly [K in D]: () => void } : object;

interface Disposable {
  dispose(): void;
}

/** Makes an object with `dispose()` fit for `using`. */
export function disposing<T extends Disposable>(target: T): T & SelfDisposing {
  const { dispose: key } = Symbol as { readonly dispose?: symbol };
  const value = function (this: Disposable): void {
    this.dispose();
  };
  if (key !== undefined) Object.defineProperty(target, key, { value });
  return target as T & SelfDisposing;
}

abstract class Base implements Disposable {
  abstract dispose(): void;
}
disposing(Base.prototype);

/** What is disposed of at the end of a `using` block. */
export const Disposing: abstract new () => SelfDisposing = Base as unknown as abstract new () => SelfDisposing;
