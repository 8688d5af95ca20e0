// load.h: what the two load generators (udpblast, streamblast) share: reading the query file, making names that were
// never asked before, judging an answer, and the figures at the end.
#pragma once
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static inline double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

// ---- queries: wire messages one after the other, without the two-octet length
struct query { uint32_t off; uint16_t len; };
static unsigned char *packets;
static struct query *queries;
static size_t query_count;

static unsigned type_number(const char *s, size_t n) {
  if (n == 6 && !memcmp(s, "SMIMEA", 6)) return 53;
  if (n == 4 && !memcmp(s, "CERT", 4)) return 37;
  if (n == 3 && !memcmp(s, "SOA", 3)) return 6;
  if (n == 1 && *s == 'A') return 1;
  if (n > 4 && !memcmp(s, "TYPE", 4)) return atoi(s + 4);
  fprintf(stderr, "unknown type %.*s\n", (int)n, s);
  exit(2);
}

// Reads at most max lines "name TYPE" (as dnsperf has them; no escapes). Every query: RD clear, one question, OPT with the size.
static void read_queries(const char *file, size_t max, int edns, int dobit) {
  int fd = open(file, O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) || !st.st_size) { perror(file); exit(1); }
  char *in = mmap(0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0), *end = in + st.st_size;
  if (in == MAP_FAILED) { perror("mmap"); exit(1); }
  size_t lines = 0, room = 0, used = 0;
  for (char *p = in; p < end && lines < max; lines++) { char *n = memchr(p, '\n', end - p); p = n ? n + 1 : end; room = p - in; }
  room += lines * 40;
  packets = malloc(room); queries = malloc(sizeof *queries * (lines + 1));
  for (char *p = in; p < end && query_count < max;) {
    char *nl = memchr(p, '\n', end - p), *stop = nl ? nl : end, *sp = memchr(p, ' ', stop - p);
    if (!sp || sp - p > 255) { p = stop + 1; continue; }
    char *te = memchr(sp + 1, ' ', stop - sp - 1);
    unsigned t = type_number(sp + 1, (te ? te : stop) - sp - 1);
    unsigned char *s = packets + used, *o = s + 12;
    memset(s, 0, 12); s[5] = 1; s[11] = 1;
    for (char *l = p; l < sp;) {
      char *d = memchr(l, '.', sp - l); size_t n = (d ? d : sp) - l;
      if (!n || n > 63) break;
      *o++ = n; memcpy(o, l, n); o += n; l += n + 1;
    }
    const unsigned char tail[] = {0, t >> 8, t, 0, 1, 0, 0, 41, edns >> 8, edns, 0, 0, dobit ? 0x80 : 0, 0, 0, 0};
    memcpy(o, tail, sizeof tail); o += sizeof tail;
    queries[query_count++] = (struct query){used, o - s};
    used += o - s; p = stop + 1;
  }
  munmap(in, st.st_size); close(fd);
  if (!query_count) { fprintf(stderr, "%s: no queries\n", file); exit(1); }
}

// Fresh names: the first label of a query becomes random hexadecimal digits, other ones for each query and each run.
static uint64_t rnd;
static void seed(void) { rnd = (uint64_t)(now() * 1e9) * 0x9E3779B97F4A7C15ull | 1; }
static inline void fresh_label(unsigned char *q) {
  unsigned n = q[12];
  for (unsigned i = 0; i < n;) {
    rnd ^= rnd << 13; rnd ^= rnd >> 7; rnd ^= rnd << 17;
    uint64_t r = rnd;
    for (int k = 0; k < 16 && i < n; k++, i++, r >>= 4) q[13 + i] = "0123456789abcdef"[r & 15];
  }
}

// ---- answers
enum expect { ANY, HIT, MISS };
static enum expect expectation(const char *s) {
  if (!strcmp(s, "hit")) return HIT;
  if (!strcmp(s, "miss")) return MISS;
  if (!strcmp(s, "any")) return ANY;
  fprintf(stderr, "-e hit, miss or any\n"); exit(2);
}

struct tally { uint64_t sent, got, lost, bad, wrong, truncated, bytes, rcode[16]; double latency; float *sample; size_t samples; };
#define SAMPLES 4000000
static inline void sample(struct tally *t, double d) { t->latency += d; if (t->samples < SAMPLES) t->sample[t->samples++] = d; }

static inline int skip_name(const unsigned char *p, int n, int i) {
  while (i < n && p[i]) { if (p[i] >= 0xc0) return i + 2; i += p[i] + 1; }
  return i + 1;
}

// Is p[0..n) a right answer to the query q (of which the question is compared octet by octet)?
// hit:  NOERROR, AA, not truncated, the answer section whole, with a signature and a record of the type asked for, and every such
//       record with a DER certificate of at least 400 octets in it.
//       A truncated answer is right where the caller allows it (a small EDNS size): it carries nothing, and is counted apart.
// miss: NXDOMAIN, AA, no answer, and in the authority section SOA and two proofs at least, each signed: six records, 500 octets.
static inline int right(enum expect e, int allow_tc, const unsigned char *p, int n, const unsigned char *q, int qlen) {
  if (e == ANY) return 1;
  int qend = qlen - 11; // the query ends with the OPT record
  if (n < qend || memcmp(p + 12, q + 12, qend - 12) || !(p[2] & 4)) return 0;
  int an = p[6] << 8 | p[7], ns = p[8] << 8 | p[9], rcode = p[3] & 15, tc = p[2] & 2;
  if (e == MISS) return rcode == 3 && !tc && an == 0 && ns >= 6 && n >= 500;
  if (rcode) return 0;
  if (tc) return allow_tc && an == 0;
  int found = 0, signature = 0;
  for (int i = qend; an > 0; an--) { // PowerDNS changes the order of the records
    i = skip_name(p, n, i);
    if (i + 10 > n) return 0;
    int type = p[i] << 8 | p[i + 1], rdlength = p[i + 8] << 8 | p[i + 9];
    i += 10;
    if (i + rdlength > n) return 0;
    if (type == (q[qend - 4] << 8 | q[qend - 3])) {
      int der = type == 37 ? 5 : 3; // octets before the certificate: CERT 5, SMIMEA 3
      if (rdlength < 400 || p[i + der] != 0x30 || p[i + der + 1] != 0x82) return 0;
      found = 1;
    } else if (type == 46) signature = 1;
    i += rdlength;
  }
  return found && signature;
}

// Counts one answer and judges it.
static inline void count(struct tally *t, enum expect e, int allow_tc, const unsigned char *p, int n, const unsigned char *q, int qlen) {
  t->got++; t->bytes += n; t->rcode[p[3] & 15]++;
  if (p[2] & 2) t->truncated++;
  if (!right(e, allow_tc, p, n, q, qlen)) t->wrong++;
}

static int by_value(const void *a, const void *b) { float x = *(float *)a, y = *(float *)b; return x < y ? -1 : x > y; }
// One JSON object; gen_cpu is the share of a core that this program used itself.
static void print_tally(struct tally *t, double seconds, double cpu_before, const char *more) {
  struct rusage u; getrusage(RUSAGE_SELF, &u);
  double cpu = u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6 - cpu_before;
  qsort(t->sample, t->samples, sizeof *t->sample, by_value);
  double g = t->got ? t->got : 1;
  printf("{\"qps\": %.0f, \"secs\": %.3f, \"sent\": %lu, \"got\": %lu, \"lost\": %lu, \"bad\": %lu, \"wrong\": %lu, \"tc\": %lu, \"noerror\": %lu, \"nxdomain\": %lu, "
         "\"servfail\": %lu, \"refused\": %lu, \"mean_size\": %.0f, \"lat_avg_us\": %.1f, \"lat_p50_us\": %.1f, \"lat_p99_us\": %.1f, \"gen_cpu\": %.3f%s}\n",
         t->got / seconds, seconds, t->sent, t->got, t->lost, t->bad, t->wrong, t->truncated, t->rcode[0], t->rcode[3], t->rcode[2], t->rcode[5],
         t->bytes / g, t->latency / g * 1e6, t->samples ? t->sample[t->samples / 2] * 1e6 : 0,
         t->samples ? t->sample[(size_t)(t->samples * .99)] * 1e6 : 0, cpu / seconds, more);
}
static double cpu_used(void) {
  struct rusage u; getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}
