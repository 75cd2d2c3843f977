/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - bring memory back to what it was, thousands of times a second.
 *
 * The race explorer runs a scenario from the same beginning again and again;
 * making an engine each time would take longer than the run.  What make() maps
 * is write-protected; the first write to a page of it saves the page, and from
 * then on every snapshot_restore() copies the saved one back.
 *
 * One snapshot a process.  A wild access ends in os_abort(), so that it is a
 * finding of the explorer.  make() must not leave anything in malloc's memory
 * or in static variables that a run changes.
 */
#ifndef QUIRE_TESTS_SNAPSHOT_H
#define QUIRE_TESTS_SNAPSHOT_H

void snapshot_take(void (*make)(void));
void snapshot_restore(void);
/* Pages that runs have changed so far. */
unsigned snapshot_nr_dirty(void);

#endif
