// streamecho PORT SIZE [KEY.pem CERT.pem] : the ceiling of streamblast. DNS over TCP, or TLS when a key is given: one thread,
// epoll; each query is framed by its length and answered with its own header and question and a prebuilt rest (SMIMEA record,
// RRSIG, OPT; filler octets) of SIZE octets in all; the answers to everything that was read leave in one write.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#define IN (64 << 10)
#define OUT (1 << 20)

struct conn { int fd, in_len, out_from, out_len, greeted; SSL *tls; unsigned char in[IN], out[OUT]; };

static int step(struct conn *c, int r) { // 0 "not now", -1 the end
  if (r > 0) return r;
  if (!c->tls) return r < 0 && errno == EAGAIN ? 0 : -1;
  int e = SSL_get_error(c->tls, r); ERR_clear_error();
  return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}
static int flush(struct conn *c) {
  while (c->out_from < c->out_len) {
    int n = c->out_len - c->out_from;
    int r = step(c, c->tls ? SSL_write(c->tls, c->out + c->out_from, n) : send(c->fd, c->out + c->out_from, n, MSG_NOSIGNAL));
    if (r <= 0) return r == 0;
    c->out_from += r;
  }
  c->out_from = c->out_len = 0;
  return 1;
}

int main(int n, char **v) {
  if (n < 3) { fprintf(stderr, "streamecho PORT SIZE [KEY.pem CERT.pem]\n"); return 2; }
  int size = atoi(v[2]), on = 1; SSL_CTX *context = 0;
  signal(SIGPIPE, SIG_IGN);
  if (n > 4) {
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_use_PrivateKey_file(context, v[3], SSL_FILETYPE_PEM) != 1 || SSL_CTX_use_certificate_chain_file(context, v[4]) != 1) { ERR_print_errors_fp(stderr); return 1; }
  }
  int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(v[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(ls, (void *)&a, sizeof a) || listen(ls, 1024)) { perror("bind"); return 1; }
  int ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = 0}, ev[64];
  epoll_ctl(ep, EPOLL_CTL_ADD, ls, &e);
  static unsigned char rest[65536];
  memset(rest, 0x5a, sizeof rest);
  for (;;) {
    int k = epoll_wait(ep, ev, 64, -1);
    for (int i = 0; i < k; i++) {
      struct conn *c = ev[i].data.ptr;
      if (!c) {
        int fd = accept4(ls, 0, 0, SOCK_NONBLOCK);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c = malloc(sizeof *c); c->fd = fd; c->in_len = c->out_from = c->out_len = 0; c->tls = 0;
        if (context) { c->tls = SSL_new(context); SSL_set_fd(c->tls, fd); SSL_set_accept_state(c->tls); }
        e = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
        continue;
      }
      int alive = flush(c);
      while (alive && !c->out_len) { // nothing more is read while answers wait for the client
        int r = step(c, c->tls ? SSL_read(c->tls, c->in + c->in_len, IN - c->in_len) : recv(c->fd, c->in + c->in_len, IN - c->in_len, 0));
        if (r <= 0) { alive = r == 0; break; }
        c->in_len += r;
        unsigned char *p = c->in, *end = c->in + c->in_len, *o = c->out;
        while (end - p >= 2) {
          int l = p[0] << 8 | p[1];
          if (end - p < 2 + l || o + 2 + size > c->out + OUT) break;
          unsigned char *q = p + 2, *z = q + 12;
          while (z < q + l && *z) z += *z + 1;
          int head = z + 5 - q, rd = size - head - 12 - 109 - 11; // header and question; then SMIMEA, RRSIG, OPT
          if (head > l || rd < 8) { p += 2 + l; continue; }
          o[0] = size >> 8; o[1] = size; o += 2;
          memcpy(o, q, head); o[2] = 0x84; o[3] = 0; o[7] = 2; o[9] = 0; o[11] = 1;
          const unsigned char smimea[] = {0xc0, 12, 0, 53, 0, 1, 0, 0, 14, 16, rd >> 8, rd, 3, 0, 0, 0x30, 0x82};
          const unsigned char rrsig[] = {0xc0, 12, 0, 46, 0, 1, 0, 0, 14, 16, 0, 97};
          const unsigned char options[] = {0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0};
          memcpy(o + head, rest, size - head);
          memcpy(o + head, smimea, sizeof smimea); memcpy(o + head + 12 + rd, rrsig, sizeof rrsig); memcpy(o + size - 11, options, sizeof options);
          o += size; p += 2 + l;
        }
        c->out_len = o - c->out;
        memmove(c->in, p, end - p); c->in_len = end - p;
        if (c->out_len) alive = flush(c);
      }
      if (!alive) { if (c->tls) SSL_free(c->tls); close(c->fd); free(c); }
    }
  }
}
