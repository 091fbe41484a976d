// Teams of 32 threads, four to a workgroup, each with one output of a product.

const TEAM = 32u;
const TEAMS = 4u;
const MOST_ROWS = 8u; // of activations, at a time

var<workgroup> partial: array<f32, TEAM * TEAMS>;

// The sum of a team's partial results, the same way every time.
fn sum_team(thread: u32, own: f32) -> f32 {
  partial[thread] = own;
  workgroupBarrier();
  let lane = thread % TEAM;
  var sum = 0.0;
  if (lane < 4u) {
    for (var i = 0u; i < 8u; i++) { sum += partial[thread - lane + 8u * lane + i]; }
  }
  workgroupBarrier();
  partial[thread] = sum;
  workgroupBarrier();
  let first = thread - lane;
  sum = (partial[first] + partial[first + 1u]) + (partial[first + 2u] + partial[first + 3u]);
  workgroupBarrier();
  return sum;
}
