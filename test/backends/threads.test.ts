import { threads } from "../../src/backends/threads.js";
import { backendSuite } from "../suites/backend.js";
import { sessionSuite } from "../suites/session.js";

for (const workers of [1, 2, 5]) {
  backendSuite(`threads, ${workers} workers`, () => threads({ workers }), { runs: workers === 2 ? 8 : 4 });
  sessionSuite(`threads, ${workers} workers`, () => threads({ workers }));
}
