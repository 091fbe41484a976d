/** `isq plan`: what would happen to each tensor, why, and what it would cost. Reads no weight. */

import { type Command, Option } from "commander";
import { formatPlan } from "../report/plan-text.js";
import { addModelForms, addQuantizationOptions } from "./options.js";

interface PlanOptions {
  readonly json?: boolean;
}

export function addPlanCommand(program: Command): void {
  const command = addQuantizationOptions(
    program
      .command("plan")
      .description("show what quantization would do to each tensor, and why")
      .addOption(new Option("--json", "print the plan as JSON")),
  );
  addModelForms<PlanOptions>(command, async (builder, options) => {
    const plan = await builder.plan();
    process.stdout.write(options.json ? `${JSON.stringify(plan, null, 2)}\n` : formatPlan(plan));
  });
}
