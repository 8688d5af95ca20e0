// streamblast -s ADDR -p PORT -d QUERYFILE [-T] [-l SECONDS] [-q WINDOW] [-c CONNECTIONS] [-b EDNS_SIZE] [-m MAXQUERIES]
//             [-e hit|miss|any] [-r] [-n]
// A closed-loop load generator for DNS over TCP (RFC 7766), or TLS (RFC 7858) with -T: one thread, epoll, WINDOW queries
// outstanding over all connections together, pipelined; all free places of a connection are filled by one write. Answers may
// come in any order; each is framed by its length, matched with its query and judged (-e, see load.h). The server's certificate
// is not checked. A connection that the server closes is opened again, what was outstanding on it counts as lost.
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#define IN (256 << 10)
#define OUT (64 << 10)
#define PLACES 256

// A place is an outstanding query; the low octet of the message ID is its number, the high octet counts its uses.
struct place { uint32_t query; uint8_t use, busy; double sent_at; unsigned char asked[64]; };
struct conn { int fd; SSL *tls; int out, in_len, out_from, out_len; struct place place[PLACES]; uint8_t free[PLACES]; unsigned char *in, *outbuf; };

static struct sockaddr_in server;
static SSL_CTX *context;
static int epoll, places, fresh;
static enum expect expected = ANY;
static size_t cursor;
static struct tally T;
static uint64_t reconnects;

static void fail(const char *what) { perror(what); ERR_print_errors_fp(stderr); exit(1); }

static void dial(struct conn *c) {
  int on = 1, flags;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (void *)&server, sizeof server)) fail("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (context) {
    c->tls = SSL_new(context);
    SSL_set_fd(c->tls, c->fd);
    if (SSL_connect(c->tls) != 1) fail("TLS handshake");
  }
  flags = fcntl(c->fd, F_GETFL); fcntl(c->fd, F_SETFL, flags | O_NONBLOCK);
  c->in_len = c->out_from = c->out_len = c->out = 0;
  for (int i = 0; i < places; i++) { c->free[i] = i; c->place[i].busy = 0; }
  struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &ev);
}

static void redial(struct conn *c) {
  T.lost += c->out; reconnects++;
  if (c->tls) SSL_free(c->tls);
  close(c->fd); // which also takes it out of the epoll set
  dial(c);
}

// Octets moved, 0 for "not now", -1 for an end of the connection.
static int get(struct conn *c, void *to, int n) {
  if (!c->tls) { int r = recv(c->fd, to, n, 0); return r > 0 ? r : r < 0 && errno == EAGAIN ? 0 : -1; }
  int r = SSL_read(c->tls, to, n);
  if (r > 0) return r;
  int e = SSL_get_error(c->tls, r); ERR_clear_error();
  return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}
static int put(struct conn *c, void *from, int n) {
  if (!c->tls) { int r = send(c->fd, from, n, MSG_NOSIGNAL); return r > 0 ? r : r < 0 && errno == EAGAIN ? 0 : -1; }
  int r = SSL_write(c->tls, from, n);
  if (r > 0) return r;
  int e = SSL_get_error(c->tls, r); ERR_clear_error();
  return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

// Asks on every free place, in one write. False: the connection is gone.
static int ask(struct conn *c, double t) {
  while (c->out < places && c->out_len + 2 + 512 <= OUT) {
    struct query *q = &queries[cursor]; if (++cursor == query_count) cursor = 0;
    int at = c->free[places - 1 - c->out++];
    struct place *s = &c->place[at];
    unsigned char *p = c->outbuf + c->out_len;
    p[0] = q->len >> 8; p[1] = q->len; p += 2;
    memcpy(p, packets + q->off, q->len);
    if (fresh) { fresh_label(p); memcpy(s->asked, p + 12, p[12] + 1); }
    s->query = q - queries; s->use++; s->busy = 1; s->sent_at = t; p[0] = s->use; p[1] = at;
    c->out_len += 2 + q->len; T.sent++;
  }
  while (c->out_from < c->out_len) {
    int r = put(c, c->outbuf + c->out_from, c->out_len - c->out_from);
    if (r < 0) return 0;
    if (r == 0) return 1;
    c->out_from += r;
  }
  c->out_from = c->out_len = 0;
  return 1;
}

static void answer(struct conn *c, unsigned char *p, int n, double t) {
  static unsigned char whole[512];
  if (n < 12 || p[1] >= places || !(p[2] & 0x80)) { T.bad++; return; }
  struct place *s = &c->place[p[1]];
  if (!s->busy || s->use != p[0]) { T.bad++; return; }
  struct query *q = &queries[s->query]; unsigned char *asked = packets + q->off;
  if (fresh) { memcpy(whole, asked, q->len); memcpy(whole + 12, s->asked, asked[12] + 1); asked = whole; }
  s->busy = 0; c->free[places - c->out--] = p[1];
  count(&T, expected, 0, p, n, asked, q->len);
  sample(&T, t - s->sent_at);
}

// Reads until nothing is left and judges the whole answers in it. False: the connection is gone.
static int take(struct conn *c) {
  for (;;) {
    int room = IN - c->in_len, r = get(c, c->in + c->in_len, room);
    if (r < 0) return 0;
    if (r == 0) return 1;
    c->in_len += r;
    double t = now(); int i = 0;
    while (c->in_len - i >= 2) {
      int n = c->in[i] << 8 | c->in[i + 1];
      if (c->in_len - i < 2 + n) break;
      answer(c, c->in + i + 2, n, t); i += 2 + n;
    }
    memmove(c->in, c->in + i, c->in_len - i); c->in_len -= i;
    if (!c->tls && r < room) return 1; // a short read has emptied the socket
  }
}

int main(int n, char **v) {
  const char *addr = "127.0.0.1", *file = 0; int port = 53, window = 200, conns = 8, edns = 4096, dobit = 1, tls = 0, opt;
  double length = 10; size_t max = 1000000;
  while ((opt = getopt(n, v, "s:p:d:l:q:c:b:m:e:rnT")) > 0) switch (opt) {
    case 's': addr = optarg; break; case 'p': port = atoi(optarg); break; case 'd': file = optarg; break;
    case 'l': length = atof(optarg); break; case 'q': window = atoi(optarg); break; case 'c': conns = atoi(optarg); break;
    case 'b': edns = atoi(optarg); break; case 'm': max = atol(optarg); break; case 'e': expected = expectation(optarg); break;
    case 'r': fresh = 1; break; case 'n': dobit = 0; break; case 'T': tls = 1; break; default: return 2; }
  if (!file) { fprintf(stderr, "-d QUERYFILE\n"); return 2; }
  signal(SIGPIPE, SIG_IGN);
  read_queries(file, max, edns, dobit);
  seed(); cursor = fresh ? 0 : rnd % query_count;
  places = window / conns; if (places < 1) places = 1; if (places > PLACES) places = PLACES;
  server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)}; inet_pton(AF_INET, addr, &server.sin_addr);
  if (tls) {
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 64 << 10);
    if (SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\3dot", 4)) fail("ALPN");
  }
  T.sample = malloc(SAMPLES * sizeof(float)); epoll = epoll_create1(0);
  struct conn *C = calloc(conns, sizeof *C);
  for (int i = 0; i < conns; i++) { C[i].in = malloc(IN); C[i].outbuf = malloc(OUT); dial(&C[i]); }
  double cpu0 = cpu_used(), t0 = now(), end = t0 + length, quiet = t0;
  for (int i = 0; i < conns; i++) if (!ask(&C[i], t0)) redial(&C[i]);
  struct epoll_event ev[64];
  for (double t = t0; t < end; t = now()) {
    int k = epoll_wait(epoll, ev, 64, 100);
    if (k > 0) quiet = t;
    else if (t - quiet > 2) { for (int i = 0; i < conns; i++) { redial(&C[i]); ask(&C[i], t); } quiet = t; } // silent for two seconds
    for (int i = 0; i < k; i++) {
      struct conn *c = ev[i].data.ptr;
      if (!take(c) || !ask(c, now())) { redial(c); ask(c, now()); }
    }
  }
  char more[200];
  int m = snprintf(more, sizeof more, ", \"reconnects\": %lu", reconnects);
  if (tls) snprintf(more + m, sizeof more - m, ", \"tls\": \"%s %s\"", SSL_get_version(C[0].tls), SSL_get_cipher(C[0].tls));
  print_tally(&T, now() - t0, cpu0, more);
}
