/** Lets timers, input and abort signals through during long synchronous work. */

/** Milliseconds of work between two pauses. */
const WORK_MS = 25;

/** Call the result between steps: it waits for one turn of the event loop when the last was long ago. */
export function createPause(): () => Promise<void> {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < WORK_MS) return;
    await new Promise<void>((resolve) => setTimeout(resolve, 0));
    since = performance.now();
  };
}
