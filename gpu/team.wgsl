// Teams of threads, each with one output of a product. On a GPU in software, where every barrier costs microseconds, a team
// is one thread.

override TEAM: u32 = 32u; // or 1
const TEAM_THREADS = 128u; // of a workgroup
const MOST_ROWS = 8u; // of activations, at a time

var<workgroup> partial: array<f32, TEAM_THREADS>;

// The sum of a team's partial results, the same way every time.
fn sum_team(thread: u32, own: f32) -> f32 {
  if (TEAM == 1u) { return own; }
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

// A bit for every row that chose this expert.
fn chosen_rows(first: u32, rows: u32) -> u32 {
  var chosen = 0u;
  for (var r = 0u; r < rows; r++) {
    if (u32(sums[parameters.chosenAt + first + r]) == parameters.expert) { chosen |= 1u << r; }
  }
  return chosen;
}

// Which output a thread works on.
fn output_of(thread: u32, group: u32) -> u32 { return group * (TEAM_THREADS / TEAM) + thread / TEAM; }

fn every_row(rows: u32) -> u32 { return (1u << rows) - 1u; }

// Adds up what the threads of a team have of each row, and writes the sums of the rows that have a bit in `chosen`.
fn put_sums(thread: u32, own: ptr<function, array<f32, MOST_ROWS>>, output: u32, first: u32, chosen: u32) {
  for (var r = 0u; r < MOST_ROWS; r++) {
    let sum = sum_team(thread, (*own)[r]);
    if (thread % TEAM == 0u && output < parameters.outputs && (chosen & (1u << r)) != 0u) {
      sums[parameters.outAt + (first + r) * parameters.outputs + output] = sum;
    }
  }
}
