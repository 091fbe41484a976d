// Reductions over teams of 32 threads, by subgroups of LANES threads: by shuffles where a subgroup reaches, through workgroup
// memory beyond. Threads of a subgroup follow one another. Sums are those of a balanced tree, the same for every LANES. All
// threads of a workgroup take part, for there may be barriers.

const TEAM = 32u;
const TEAMS = 8u;
const THREADS = TEAM * TEAMS;
const REACH = min(LANES, TEAM);

var<workgroup> across: array<u32, THREADS>;

// The values of all subgroups of a team, where a subgroup is less than a team.
fn values_across(thread: u32, own: u32) -> array<u32, TEAM / REACH> {
  across[thread] = own;
  workgroupBarrier();
  var values: array<u32, TEAM / REACH>;
  for (var i = 0u; i < TEAM / REACH; i++) { values[i] = across[thread / TEAM * TEAM + REACH * i]; }
  workgroupBarrier();
  return values;
}

fn team_sum(thread: u32, own: f32) -> f32 {
  var sum = own;
  for (var d = 1u; d < REACH; d <<= 1u) { sum += subgroupShuffleXor(sum, d); }
  if (LANES < TEAM) {
    var values = values_across(thread, bitcast<u32>(sum));
    for (var count = TEAM / REACH / 2u; count > 0u; count >>= 1u) {
      for (var i = 0u; i < count; i++) {
        values[i] = bitcast<u32>(bitcast<f32>(values[2u * i]) + bitcast<f32>(values[2u * i + 1u]));
      }
    }
    sum = bitcast<f32>(values[0]);
  }
  return sum;
}

fn team_max(thread: u32, own: u32) -> u32 {
  if (LANES == TEAM) { return subgroupMax(own); }
  var most = own;
  for (var d = 1u; d < REACH; d <<= 1u) { most = max(most, subgroupShuffleXor(most, d)); }
  if (LANES < TEAM) {
    let values = values_across(thread, most);
    for (var i = 0u; i < TEAM / REACH; i++) { most = max(most, values[i]); }
  }
  return most;
}
