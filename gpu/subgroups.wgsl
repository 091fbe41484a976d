enable subgroups;
diagnostic(off, subgroup_uniformity); // branches go by subgroup
