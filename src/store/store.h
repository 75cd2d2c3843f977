/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - where bytes lie outside memory: objects, not blocks.
 *
 * put a batch, get several, free one.  store/log.c keeps them in 1 MiB segments of
 * an unlinked O_TMPFILE file, O_DIRECT; store/ring.c reads through io_uring or,
 * where that is refused, with pread, on I/O threads.  A remote store would
 * offer the same struct store_ops.
 *
 * Integrity is the caller's: the swap slot carries the page's hash.
 */
#ifndef QUIRE_STORE_STORE_H
#define QUIRE_STORE_STORE_H

#include "base/slab.h"

/* Place of an object, as the store made it; 40 bits used, 0 is none. */
struct store_loc {
	u64 v;
};

#define STORE_MAX_OBJECT PAGE_SIZE
#define STORE_MAX_BATCH 64

/* One object of a put. */
struct store_put {
	const void *data;
	u32 len; /* 1..STORE_MAX_OBJECT */
	u32 owner; /* slot number, written to the object's header for cleaning */
	struct store_loc ret_loc;
};

/*
 * One asynchronous read; owned by the caller until done() runs.  loc must be
 * live when get() is called; it may be freed or moved while the read runs (the
 * caller gets the old bytes, never somebody else's).
 */
struct store_get {
	struct store_loc loc;
	u32 len;
	u32 owner; /* as put; compared with the object's header */
	u8 *buf; /* receives exactly len bytes on success */
	/* Runs on an I/O thread of the store, or on the caller's (get_now).  res: 0 or
	 * -errno (-EIO: device error or not this object; -ENOMEM, -EAGAIN: the system's,
	 * the object is well).  The store does not touch get any more. */
	void (*done)(struct store_get *get, int res);
	void *ctx;
	/* the store's own */
	struct store_get *next;
	struct store_get *also; /* the next one that is read by the same operation */
	u8 *bounce;
	u64 off; /* its blocks */
	u32 span;
	u32 op_span; /* the operation's, of the first: from op_off on, into bounce */
	u64 op_off;
	int fd;
};

/* A read by the caller. */
struct store_now {
	u8 *buf; /* page aligned: the objects come through it */
	u32 bytes; /* of buf */
	int here; /* -1, or what here() said of the first object */
	u64 device_ns; /* out: until the bytes were there, of all this takes */
};

struct store_config {
	const char *dir; /* directory of the file */
	u64 max_bytes; /* size limit; UINT64_MAX: half of the free space */
	bool allow_tmpfs; /* tests */
	bool force_pread; /* do not use io_uring */
};

struct store;

/* Upcall of the cleaner: is the object of `owner`, which may be any number, at `loc` still
 * wanted?  And: it was copied to `to`; returns false when it died meanwhile (then `to` is
 * freed). */
struct store_clean_ops {
	bool (*live)(void *ctx, u32 owner, struct store_loc loc);
	bool (*moved)(void *ctx, u32 owner, struct store_loc from, struct store_loc to);
	void *ctx;
};

struct store_ops {
	const char *name;
	/*
	 * Write nr objects, all or none; blocks until they are readable (on a
	 * reclaim thread, never on a fault thread).  -ENOSPC (limit or device;
	 * known before anything is lost), -EIO, -ENOMEM.
	 */
	int (*put)(struct store *s, struct store_put *objs, u32 nr);
	/*
	 * Start reading as many from the front as lie close together, in one operation.
	 * How many (>= 1), or -errno and no done() runs.  Never blocks.
	 */
	int (*get)(struct store *s, struct store_get *const *gets, u32 nr);
	/*
	 * The same, read by the caller, where waiting for the device costs less than waking
	 * somebody to do so.  How many (>= 1), their done() has run; it may not call get() where
	 * now->here was given, since I/O threads start with the table of who starts them.
	 */
	int (*get_now)(struct store *s, struct store_get *const *gets, u32 nr,
		       struct store_now *now);
	/*
	 * For a thread that has the program's table of descriptors and not the engine's: how
	 * it can read what lies at loc, or -errno: not from there, now or ever.
	 */
	int (*here)(struct store *s, struct store_loc loc);
	/* O(1), never fails, never blocks on I/O. */
	void (*free)(struct store *s, struct store_loc loc, u32 len);
	/* Copy live objects out of sparse segments until about `bytes` of file
	 * space are free again; returns bytes gained.  Also gives space that was
	 * not used for a while back to the file system (bytes 0: only that).
	 * Blocks; holds no lock during upcalls. */
	u64 (*clean)(struct store *s, u64 bytes, const struct store_clean_ops *up);
	void (*close)(struct store *s);
};

struct store {
	const struct store_ops *ops; /* (C) */
	struct counter64 bytes_file; /* file space held */
	struct counter64 bytes_live; /* objects, headers and padding included */
	struct counter64 bytes_inherited; /* of those: in files of ancestors, not in ours */
	struct counter64 nr_objects;
	struct counter64 nr_reads, nr_writes; /* operations on the device */
	struct counter64 bytes_read, bytes_written;
	struct counter64 nr_read_errors, nr_write_errors, nr_enospc;
	struct counter64 nr_here_opened, nr_here_refused; /* by threads of the program */
	struct counter64 nr_cleaned; /* segments */
	struct counter64 full; /* 1: may not grow (limit, device), and has hardly any room */
	u64 max_bytes; /* (C) after open */
	bool direct; /* (C) O_DIRECT in force */
	struct counter64 ring; /* 1: io_uring in force; known once a get has run */
	char dir[256]; /* (C) */
};

/*
 * Why a directory will not do, before anything is created: 0 or -ENOENT,
 * -ENOTDIR, -EACCES (not writable), -EMEDIUMTYPE (tmpfs/ramfs: memory),
 * -ENOSPC (less than 16 MiB free).  ret_free: bytes free there, then too.
 */
int QUIRE_MUST_CHECK store_check_dir(const char *dir, bool allow_tmpfs, u64 *ret_free);
/* Open a log store; on an engine thread (private fd table). */
int QUIRE_MUST_CHECK store_log_open(const struct store_config *cfg, struct meta *meta,
				    struct store **ret_store);
/* Stop its threads and give everything back; tests and teardown. */
void store_close(struct store *s);
/* On a thread with the program's table, in which here() may have left something: before
 * store_close(), and in a forked child before store_fork_child(). */
void store_forget_here(struct store *s);
struct fmt;
void store_to_text(const struct store *s, struct fmt *out);

/*
 * Fork.  Segments live at the fork are read-only for both sides and reused by
 * the file's owner when nobody holds them any more: a count per segment in
 * MAP_SHARED memory, and a pipe whose end tells that a child and all its
 * descendants are gone (exit, exec or kill), whatever they still held.
 *
 * At most STORE_MAX_FILES generations of files are open at a time.
 */
#define STORE_MAX_FILES 8

/* Descriptors that the child needs, by file; -1 none. */
struct store_fork {
	int fd[STORE_MAX_FILES];
	int alive[STORE_MAX_FILES]; /* write ends; to be held by the child only */
};

/*
 * In the parent, with the gate closed and no put, get or clean in flight.
 * ret_fork: descriptors in the caller's fd table, to be brought into the
 * child's (close-on-exec set); they stay the store's.  -EMFILE: too many
 * generations or children (bring everything into memory first), -ENOMEM.
 */
int QUIRE_MUST_CHECK store_fork_prepare(struct store *s, struct store_fork *ret_fork);
/* How many descriptors that will be, at most; no lock: a hint. */
u32 store_fork_fds(struct store *s);
/* In the parent after the fork, failed or not: drops our write end. */
void store_fork_parent(struct store *s);
/*
 * In the child: `fork` holds the numbers these descriptors have here; they
 * become the store's.  New writes go to a file of our own, opened when first
 * needed; I/O threads start again with the first get.
 */
void store_fork_child(struct store *s, const struct store_fork *fork);

#endif
