/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdso.c - the clock, and on which processor we are, without a system call.
 *
 * Owns finding two functions in the page of code that the kernel maps into each
 * process (vdso(7)).  A fault takes several time stamps; each costs 25 ns this way
 * and 250 as a system call on a virtual machine.
 *
 * A function is looked up once, by whoever asks first; two that ask at the same
 * time find the same.  Their addresses are the only mutable static data of base/:
 * the same in every thread, fork keeps them valid, and the explorer never comes
 * here.  No vDSO (`vdso=0`, or a kernel before 6.4 without /proc): the system call.
 *
 * See also: linux tools/testing/selftests/vDSO/parse_vdso.c, the method.
 */
#include "base/vdso.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/os.h"
#include "base/sync.h"

#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif

#define NOT_THERE 1u /* looked for and not found; no function has this address */
#define AUXV_MAX 64

static struct atomic64 clock_fn, getcpu_fn; /* 0: not looked for yet */

/* Valgrind unmaps it, and says so in the vector that it gives the program on its stack. */
static bool is_mapped(u64 addr)
{
	u8 there;

	return !os_syscall(SYS_mincore, addr, PAGE_SIZE, &there);
}

/* Address of the vDSO's ELF header, 0: there is none. */
static u64 vdso_base(void)
{
	Elf64_auxv_t aux[AUXV_MAX];
	long n = os_syscall(SYS_prctl, PR_GET_AUXV, aux, sizeof(aux));

	if (n < 0) {
		int fd = os_open("/proc/self/auxv", O_RDONLY | O_CLOEXEC, 0);

		if (fd < 0)
			return 0;
		n = os_pread(fd, aux, sizeof(aux), 0);
		os_close(fd);
	}
	/* The prctl says how long the vector is, not how much of it it gave. */
	n = min_of(n, (long)sizeof(aux));
	for (long i = 0; i < n / (long)sizeof(aux[0]); i++)
		if (aux[i].a_type == AT_SYSINFO_EHDR)
			return is_mapped(aux[i].a_un.a_val) ? aux[i].a_un.a_val : 0;
	return 0;
}

struct vdso {
	u64 offset; /* of its addresses to where it is mapped */
	const Elf64_Sym *symbols;
	const char *strings;
	u64 nr_symbols;
};

static bool read_dynamic(struct vdso *v, const Elf64_Dyn *dyn)
{
	for (; dyn->d_tag != DT_NULL; dyn++) {
		u64 at = v->offset + dyn->d_un.d_ptr;

		if (dyn->d_tag == DT_SYMTAB)
			v->symbols = (const Elf64_Sym *)at;
		else if (dyn->d_tag == DT_STRTAB)
			v->strings = (const char *)at;
	}
	/* The kernel's linker script puts the string table behind the symbols; that
	 * is how many there are, whichever hash table this vDSO has. */
	if (!v->symbols || !v->strings || (u64)v->strings <= (u64)v->symbols)
		return false;
	v->nr_symbols = ((u64)v->strings - (u64)v->symbols) / sizeof(Elf64_Sym);
	return true;
}

static bool open_vdso(struct vdso *v, u64 base)
{
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)base;
	const Elf64_Phdr *ph = (const Elf64_Phdr *)(base + eh->e_phoff);
	const Elf64_Dyn *dyn = NULL;
	bool loaded = false;

	for (u32 i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD && !loaded) {
			v->offset = base + ph[i].p_offset - ph[i].p_vaddr;
			loaded = true;
		} else if (ph[i].p_type == PT_DYNAMIC) {
			dyn = (const Elf64_Dyn *)(base + ph[i].p_offset);
		}
	}
	return loaded && dyn && read_dynamic(v, dyn);
}

static u64 look_up(const char *name, size_t size)
{
	struct vdso v = { 0 };
	u64 base = vdso_base();

	if (!base || !open_vdso(&v, base))
		return NOT_THERE;
	for (u64 i = 0; i < v.nr_symbols; i++) {
		const Elf64_Sym *s = &v.symbols[i];

		if (ELF64_ST_TYPE(s->st_info) == STT_FUNC && s->st_shndx != SHN_UNDEF &&
		    !memcmp(v.strings + s->st_name, name, size))
			return v.offset + s->st_value;
	}
	return NOT_THERE;
}

/* Its address, NOT_THERE: there is none.  size: with the final zero. */
static u64 find(struct atomic64 *known, const char *name, size_t size)
{
	u64 fn = atomic64_load(known);

	if (!fn) {
		fn = look_up(name, size);
		atomic64_store(known, fn);
	}
	return fn;
}

int vdso_clock_gettime(int clock, struct timespec *ret_ts)
{
	static const char name[] = "__vdso_clock_gettime";
	u64 fn = find(&clock_fn, name, sizeof(name));

	if (fn == NOT_THERE)
		return -ENOSYS;
	return ((int (*)(int, struct timespec *))fn)(clock, ret_ts);
}

int vdso_getcpu(unsigned *ret_cpu)
{
	static const char name[] = "__vdso_getcpu";
	u64 fn = find(&getcpu_fn, name, sizeof(name));

	if (fn == NOT_THERE)
		return -ENOSYS;
	return ((int (*)(unsigned *, unsigned *, void *))fn)(ret_cpu, NULL, NULL);
}
