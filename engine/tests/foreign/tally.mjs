// Counts named checks and prints them as they are made; the last line is `N passed, N failed`.
const tally = { passed: 0, failed: 0 };

/** Runs one named check; a rejection or throw is a failure that does not stop the others. */
export async function check(name, body) {
  try {
    await body();
    tally.passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    tally.failed += 1;
    console.log(`FAILED  ${name}: ${error.stack ?? error}`);
  }
}

/** Prints the sum and ends the program: a failed check may have left a connection open. */
export function finish() {
  console.log(`${tally.passed} passed, ${tally.failed} failed`);
  process.exit(tally.failed > 0 || tally.passed === 0 ? 1 : 0);
}
